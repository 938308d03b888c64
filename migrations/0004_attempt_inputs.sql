-- What an attempt read, without a row for each input: all artifacts up to this one had landed when it was submitted, and the
-- graph says whose it reads. 0: an attempt of before this column; then the time of its creation says it.
ALTER TABLE attempt ADD COLUMN inputs_upto INTEGER NOT NULL DEFAULT 0;

-- verify: SELECT 1 FROM attempt WHERE inputs_upto < 0 LIMIT 1
