-- Jobs whose attempts are used up. Each claim looks for them first; without an index of their own it read the whole backlog for that.
CREATE INDEX jobs_spent ON jobs (queue, due_at) WHERE state IN (0, 1) AND attempts >= max_attempts;
