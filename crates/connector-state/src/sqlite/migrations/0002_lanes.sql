-- The jobs in work of a lane: a revived dead letter waits for them.
CREATE INDEX jobs_lane_leased ON jobs (tenant, queue, order_key) WHERE order_key IS NOT NULL AND state = 1;
