-- What a document says of itself: author, language, created, modified.
-- +goose Up
ALTER TABLE public.kb_sources ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object');

-- +goose Down
ALTER TABLE public.kb_sources DROP COLUMN metadata;
