-- What was answered to a request_id is forgotten after some days, the oldest first.

CREATE INDEX request_by_created ON request (created);

-- verify: SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = 'request_by_created')
