-- How many submissions a second an orchestrator is given at most.

ALTER TABLE orchestrator ADD COLUMN rate_milli INTEGER NOT NULL DEFAULT 0 CHECK (rate_milli >= 0);  -- thousandths; 0: no limit

-- verify: SELECT 1 FROM orchestrator WHERE rate_milli < 0
