-- Which stored key an attempt used, all zeroes for none, and the code that it failed with.
ALTER TABLE usage_events ADD COLUMN IF NOT EXISTS key_id UUID;
ALTER TABLE usage_events ADD COLUMN IF NOT EXISTS error LowCardinality(String);
