-- Bytes that a step reads from a deleted run stay until the step ends. A daemon that starts anew knows them from here when
-- their artifact has gone already.

ALTER TABLE external_read ADD COLUMN digest BLOB;  -- of the artifact, set when it goes; NULL: artifact.digest

-- verify: SELECT 1 FROM external_read WHERE digest IS NOT NULL AND length(digest) <> 32
