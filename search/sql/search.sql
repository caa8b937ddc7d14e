{{/*
  The statement of one search, as a template (text/template) over a statement's fields:

    .Tenant.t     the condition that table t's row is the tenant's: t.tenant_id = $1, or the tenant as a literal where
                  the tenant's own index is searched, so that the planner sees that this index will do
    .Arg "x"      an argument: $n; asked for twice it is the same $n
    .Conditions   those of the search, over kb_documents d and kb_sources s
    .Late         whether words are those of all chunks, and the best are compared with what restricts the search:
                  where that leaves many, this costs less than listing all that meet it
    .Collected    whether the search names collections, whose entries are kb_collection_documents cd
    .Row          one row, looked up for each row before it
    .Pieces       whether the tenant has chunks that the model read in pieces; without, nothing here is of them

  Each list of candidates is MATERIALIZED: it is computed once, and no condition is pushed into it. A subquery that ends
  in OFFSET 0 is looked up once for each row before it: whatever the planner believes of how many there are, that is
  what is best for as few rows as a search joins. `konstruct kb explain` runs a search with EXPLAIN (ANALYZE, BUFFERS).
*/ -}}

{{define "search" -}}
WITH
{{- template "documents" .}}
{{- if not .Lexical}}
{{template "near" .}},
{{- end}}
{{- if not .Semantic}}
{{template "words" .}},
{{- end}}
{{template "scored" .}}
{{template "hits" .}}
{{- end}}

{{/* What each word of the query adds to the lexical score of some chunks. */}}
{{define "contributions" -}}
WITH
{{- template "documents" .}}
{{template "words" .}}
SELECT m.chunk_id, m.word, m.times, w.weight, (SELECT count(*) FROM matches o WHERE o.word = m.word),
       w.weight * m.factor * m.times
       / (m.times + {{.BM25.K}} * ({{.BM25.B1}} + {{.BM25.B}} * m.length / {{.Arg "average"}}::float8))
  FROM matches m JOIN weights w USING (word)
 WHERE m.chunk_id = ANY ({{.Arg "hits"}}::uuid[])
 ORDER BY 6 DESC, m.word
{{- end}}

{{/* The documents that are searched, where not all are. */}}
{{define "documents" -}}
{{- if and .Restricted (not .Listed)}}
{{- else if .Found}}
documents AS MATERIALIZED (
  SELECT o.id AS document_id FROM unnest({{.Arg "found"}}::uuid[]) o (id)),
{{- else if .Collected}}
documents AS MATERIALIZED (
  SELECT DISTINCT cd.document_id
    FROM {{template "collected" .}}),
{{- else if .Conditions}}
documents AS MATERIALIZED (
  SELECT d.id AS document_id
    FROM kb_documents d
    LEFT JOIN kb_sources s ON {{.Tenant.s}} AND s.document_id = d.id
   WHERE {{.Tenant.d}} AND {{.Conditions}}),
{{- end}}
{{- if and .Restricted (not .Semantic) (not .Late)}}
chunks AS MATERIALIZED (
  SELECT p.chunk_id
    FROM documents o,
         LATERAL (SELECT p.chunk_id FROM kb_points p WHERE {{.Tenant.p}} AND p.document_id = o.document_id
                  {{- if .Pieces}} AND p.piece_of IS NULL{{end}} OFFSET 0) p),
{{- end}}
{{- end}}

{{/* The entries of the collections, whose documents meet the conditions. */}}
{{define "collected" -}}
kb_collection_documents cd
{{- if .Conditions}}
    JOIN kb_documents d ON {{.Tenant.d}} AND d.id = cd.document_id
    LEFT JOIN kb_sources s ON {{.Tenant.s}} AND s.document_id = d.id
{{- end}}
   WHERE {{.Tenant.cd}} AND cd.collection_id = ANY ({{.Arg "collections"}}::uuid[]) AND cd.document_id IS NOT NULL
{{- if .Conditions}} AND {{.Conditions}}{{end}}
{{- end}}

{{/* The documents of the collections that meet the conditions, and how many passages they have, as far as these are
     about as few as are compared one by one; and how many entries the collections have. */}}
{{define "matching" -}}
WITH found AS MATERIALIZED (
  SELECT {{if .Several}}DISTINCT {{end}}cd.document_id
    FROM {{template "collected" .}}
   LIMIT {{.Few}} + 1)
SELECT (SELECT coalesce(array_agg(f.document_id), '{}') FROM found f),
       (SELECT count(*)
          FROM (SELECT
                  FROM found f,
                       LATERAL (SELECT FROM kb_points p WHERE {{.Tenant.p}} AND p.document_id = f.document_id
                                 LIMIT {{.Few}} + 1) p
                 LIMIT {{.Few}} + 1) p),
       CASE WHEN (SELECT count(*) FROM found) <= {{.Few}} THEN (SELECT count(*) FROM found)
       ELSE (SELECT count(*) FROM kb_collection_documents cd
              WHERE {{.Tenant.cd}} AND cd.collection_id = ANY ({{.Arg "collections"}}::uuid[])
                AND cd.document_id IS NOT NULL) END
{{- end}}

{{/* Whether the document that comes between these two meets what restricts the search. */}}
{{define "meets" -}}
coalesce((SELECT {{if .Collected}}true
                     FROM {{template "collected" .}} AND cd.document_id
{{- else}}{{.Conditions}}
                     FROM kb_documents d
                     LEFT JOIN kb_sources s ON {{.Tenant.s}} AND s.document_id = d.id
                    WHERE {{.Tenant.d}} AND d.id
{{- end}}
{{- end}}
{{define "met"}} LIMIT 1), false){{end}}

{{/* The chunks nearest to the vector; where some were read in pieces, the nearest pieces, and then the chunks of these,
     each once. Only these few are looked up: what is compared is read in an index alone, pieces or not. */}}
{{define "near" -}}
{{if .Pieces}}points{{else}}near{{end}} AS MATERIALIZED (
  SELECT p.chunk_id, {{if .Pieces}}p.document_id, {{end}}
         {{- if .Exact}}({{template "distance" .}}) + 0{{else}}{{template "distance" .}}{{end}} AS distance
{{- if .Model}}
    FROM kb_vectors p JOIN kb_chunks pc ON {{.Tenant.pc}} AND pc.id = p.chunk_id
   WHERE {{.Tenant.p}} AND p.model = {{.ModelLiteral}}
{{- else if and .Restricted (not .Indexed)}}
    FROM documents,
         LATERAL (SELECT p.chunk_id, {{if .Pieces}}p.document_id, {{end}}p.half
                    FROM kb_points p
                   WHERE {{.Tenant.p}} AND p.half IS NOT NULL AND p.document_id = documents.document_id OFFSET 0) p
   WHERE p.half IS NOT NULL
{{- else if .Own}}
    FROM kb_collection_points p
   WHERE {{.Tenant.p}} AND p.collection_id = {{.CollectionLiteral}}
{{- else}}
    FROM kb_points p
   WHERE {{.Tenant.p}} AND p.half IS NOT NULL
{{- end}}
{{- if and .Restricted .Indexed}}
     {{- /* the index's candidates are verified against the conditions as they come */}}
     AND {{template "meets" .}} = {{if .Model}}pc{{else}}p{{end}}.document_id {{- template "met" .}}
{{- else if and .Restricted .Model}}
     AND pc.document_id IN (SELECT document_id FROM documents)
{{- end}}
   ORDER BY distance{{if not .Indexed}}, chunk_id{{end}} LIMIT {{.Arg "depth"}}::integer)
{{- if .Pieces}},
near AS MATERIALIZED (
  SELECT coalesce(o.piece_of, n.chunk_id) AS chunk_id, min(n.distance) AS distance
    FROM points n, {{.Row "kb_points o" "o.document_id = n.document_id AND o.chunk_id = n.chunk_id"}}
   GROUP BY 1)
{{- end}}
{{- end}}

{{/* The distance of the nearest of a chunk's further pieces, by half precision; NULL where it has none. */}}
{{define "pieces" -}}
(SELECT min({{template "distance" .}}) FROM kb_points p WHERE {{.Tenant.p}} AND p.piece_of = c.id)
{{- end}}

{{/* The vector is read once, and not for each row. Exact adds 0 to the distance, which no index is made for. */}}
{{define "distance" -}}
{{if not .Model -}}
p.half <=> (SELECT {{.Arg "vector"}}::real[]::vector::halfvec(384))
{{- else if .Indexed -}}
p.embedding::halfvec({{.Dimensions}}) <=> (SELECT {{.Arg "vector"}}::real[]::vector::halfvec({{.Dimensions}}))
{{- else -}}
p.embedding <=> (SELECT {{.Arg "vector"}}::real[]::vector)
{{- end}}
{{- end}}

{{/* The chunks that have words of the question, and those whose words fit best, by BM25 (Lucene's form) with the
     frequencies among the tenant's chunks that are searched. All terms of a word count as that one word: its frequency
     is that of all of them. */}}
{{define "words" -}}
asked AS MATERIALIZED (
  SELECT a.word, a.term COLLATE "C" AS term, a.factor
    FROM unnest({{.Arg "words"}}::integer[], {{.Arg "terms"}}::text[], {{.Arg "factors"}}::float8[])
         a (word, term, factor)),
matches AS MATERIALIZED (
{{- if .Merged}}
  SELECT m.word, m.chunk_id, max(m.times)::integer AS times, max(m.factor) AS factor, max(m.length) AS length
    FROM (
{{- end}}
  SELECT a.word, t.chunk_id, t.times::integer AS times, a.factor, t.length
    FROM asked a,
         LATERAL (SELECT t.chunk_id, t.times, t.length
                    FROM kb_terms t
                   WHERE {{.Tenant.t}} AND t.term = a.term{{template "restriction" .}} OFFSET 0) t
{{- range .Prefixes}}
  UNION ALL
  SELECT {{.Word}}::integer, t.chunk_id, sum(t.times)::integer, 1::float8, max(t.length)
    FROM kb_terms t
   WHERE {{$.Tenant.t}} AND t.term >= {{.From}}::text COLLATE "C" AND t.term < {{.To}}::text COLLATE "C"
         {{- template "restriction" $}}
   GROUP BY t.chunk_id
{{- end}}
{{- if .Merged}}) m
   GROUP BY m.word, m.chunk_id
{{- end}}),
weights AS MATERIALIZED (
  SELECT w.word, {{.BM25.K1}} * w.weight
         * ln(1 + (greatest(w.n,
                            {{if and .Restricted (not .Late)}}(SELECT count(*) FROM chunks)
                            {{- else}}{{.Arg "chunks"}}::integer{{end}})
                   - w.n + 0.5) / (w.n + 0.5))::float8 AS weight
    FROM (SELECT w.word, w.weight, coalesce(c.n, 0) AS n
            FROM unnest({{.Arg "weights"}}::float8[]) WITH ORDINALITY w (weight, word)
            LEFT JOIN (SELECT m.word, count(*) AS n FROM matches m GROUP BY m.word) c ON c.word = w.word) w),
worded AS MATERIALIZED (
  SELECT m.chunk_id,
         {{- /* weights by their words' places: a join would compare each match with each of them */}}
         sum((ARRAY(SELECT w.weight FROM weights w ORDER BY w.word))[m.word] * m.factor * m.times
             / (m.times + {{.BM25.K}} * ({{.BM25.B1}} + {{.BM25.B}} * m.length / {{.Arg "average"}}::float8))
         )::float8 AS words
    FROM matches m
   GROUP BY m.chunk_id
{{- if .Must}}
  HAVING count(DISTINCT m.word) FILTER (WHERE m.word = ANY ({{.Arg "must"}}::integer[]))
         = cardinality({{.Arg "must"}}::integer[])
{{- end}}),
best AS MATERIALIZED (
{{- if .Late}}
  {{- /* the sort comes first, so that the documents of the best alone are looked up */}}
  SELECT w.chunk_id, w.words
    FROM (SELECT w.chunk_id, w.words FROM worded w ORDER BY 2 DESC, 1 OFFSET 0) w
   WHERE {{template "meets" .}}
         = (SELECT lc.document_id FROM kb_chunks lc WHERE {{.Tenant.lc}} AND lc.id = w.chunk_id) {{- template "met" .}}
   LIMIT {{.Arg "wordsDepth"}}::integer)
{{- else}}
  SELECT w.chunk_id, w.words FROM worded w ORDER BY 2 DESC, 1 LIMIT {{.Arg "wordsDepth"}}::integer)
{{- end}}
{{- if .Preferred}},
preferred AS MATERIALIZED (
  SELECT w.chunk_id, w.words * CASE WHEN kb_meets(c.language, c.content, c.headings, {{.Arg "phrases"}}::text[], '{}')
         THEN {{.PhraseBoost}}::float8 ELSE 1 END AS words
    FROM best w, LATERAL (SELECT c.content, p.headings, coalesce(s.language, 'simple') AS language
                              FROM kb_chunks c
                              LEFT JOIN kb_sources s ON {{.Tenant.s}} AND s.document_id = c.document_id
                              LEFT JOIN kb_passages p ON {{.Tenant.p}} AND p.chunk_id = c.id
                             WHERE {{.Tenant.c}} AND c.id = w.chunk_id OFFSET 0) c)
{{- end}}
{{- end}}

{{/* Where conditions restrict the documents, words are those of their chunks. */}}
{{define "restriction" -}}
{{if and .Restricted (not .Late)}}
     AND t.chunk_id IN (SELECT p.chunk_id FROM chunks p)
{{- end}}
{{- end}}

{{/* What each candidate scores. Hybrid adds the similarity and the share of the best words' score, which is put on the
     similarities' scale; a best score that is small beside what the words could have counts less. Semantic puts
     candidates that are near by half precision in order by full precision. */}}
{{define "scored" -}}
{{- if .Hybrid -}}
others AS MATERIALIZED (
  SELECT w.chunk_id, w.words
    FROM {{if .Preferred}}preferred{{else}}best{{end}} w
   WHERE w.chunk_id NOT IN (SELECT n.chunk_id FROM near n)),
candidates AS MATERIALIZED (
  SELECT n.chunk_id, 1 - n.distance AS similarity, {{if .Preferred}}coalesce(p.words, w.words) AS {{else}}w.{{end}}words
    FROM near n LEFT JOIN worded w USING (chunk_id)
         {{- if .Preferred}} LEFT JOIN preferred p USING (chunk_id){{end}}
  UNION ALL
  SELECT o.chunk_id, alone.similarity, o.words
    FROM others o
    LEFT JOIN LATERAL (
         SELECT 1 - {{if .Pieces}}least({{end}}NULLIF({{template "alone" .}}, 'NaN')
                {{- if .Pieces}}, {{template "pieces" .}}){{end}} AS similarity
           FROM {{if .Model}}kb_vectors v
          WHERE {{.Tenant.v}} AND v.model = {{.ModelLiteral}} AND v.chunk_id = o.chunk_id
                {{- else}}kb_chunks c WHERE {{.Tenant.c}} AND c.id = o.chunk_id{{end}} OFFSET 0) alone ON true),
{{end -}}
scored AS MATERIALIZED (
{{- if .Semantic}}
  SELECT n.chunk_id, 1 - {{template "full" .}} AS score, 1 - {{template "full" .}} AS similarity,
         NULL::float8 AS words, c.document_id, c.chunk_index, c.content
    FROM near n, {{.Row "kb_chunks c" "c.id = n.chunk_id"}})
{{- else if .Lexical}}
  SELECT w.chunk_id, w.words AS score, NULL::float8 AS similarity, w.words FROM best w)
{{- else}}
  SELECT c.chunk_id, {{.Fusion.Similarity}} * greatest(coalesce(c.similarity, 0), 0)
         + {{.Fusion.Words}} * coalesce(c.words, 0) / nullif(m.words, 0) * m.similarity AS score, c.similarity, c.words
    FROM candidates c,
         (SELECT greatest(max(c.similarity), {{.Fusion.Least}}) AS similarity,
                 greatest(max(c.words), {{.Fusion.Share}} * (SELECT sum(w.weight) FROM weights w), 1e-9) AS words
            FROM candidates c) m)
{{- end}}
{{- end}}

{{/* The distance of a chunk that only its words brought. */}}
{{define "alone" -}}
{{if .Model}}v.embedding{{else}}c.embedding{{end}} <=> (SELECT {{.Arg "vector"}}::real[]::vector)
{{- end}}

{{define "full" -}}
{{if .Model}}n.distance
{{- else if .Pieces}}least(c.embedding <=> (SELECT {{.Arg "vector"}}::real[]::vector), {{template "pieces" .}})
{{- else}}(c.embedding <=> (SELECT {{.Arg "vector"}}::real[]::vector)){{end}}
{{- end}}

{{/* The hits with what is known of each: the passages that are equal to it, and whether one of them comes before it.
     Where nothing of a document decides, only what is returned is joined. */}}
{{define "hits" -}}
SELECT h.chunk_id, h.chunk_index, coalesce(p.headings, '{}'), coalesce(p.page, 0), coalesce(p.start_byte, 0),
       coalesce(p.end_byte, 0), h.content, h.score, h.similarity, h.words, h.document_id, h.version, h.filename,
       h.title, h.source, h.recipe,
       {{if .Diverse}}pt.half::real[]{{else}}NULL::real[]{{end}},
       {{if .Merge}}e.ids{{else}}NULL::uuid[]{{end}},
       {{if and .Merge .Early -}}
       e.ids IS NOT NULL AND EXISTS (SELECT FROM scored x
                WHERE x.chunk_id = ANY (e.ids) AND (-x.score, x.chunk_id) < (-h.score, h.chunk_id))
       {{- else}}false{{end}}
  FROM (SELECT *
          FROM (SELECT f.chunk_id, f.score, f.similarity, f.words, c.document_id,
                       coalesce(c.chunk_index, 0) AS chunk_index, c.content, coalesce(s.version, 1) AS version,
                       coalesce(d.filename, '') AS filename, coalesce(s.title, '') AS title,
                       coalesce(s.source, d.source_url, '') AS source, coalesce(s.recipe, '') AS recipe,
                       {{if .PerDocument -}}
                       row_number() OVER (PARTITION BY c.document_id ORDER BY f.score DESC, f.chunk_id)
                       {{- else}}1{{end}} AS first
                  FROM {{if .Early}}(SELECT * FROM scored WHERE {{template "page" .}}
                                      ORDER BY score DESC, chunk_id LIMIT {{.Arg "most"}}::integer)
                       {{- else}}scored{{end}} f,
                       {{if .Semantic}}LATERAL (SELECT f.document_id, f.chunk_index, f.content) c
                       {{- else}}{{.Row "kb_chunks c" "c.id = f.chunk_id"}}{{end}},
                       {{.Row "kb_documents d" "d.id = c.document_id"}}
                  LEFT JOIN {{.Row "kb_sources s" "s.document_id = c.document_id"}} ON true
                 WHERE {{if .Lexical}}true
                       {{- else}}{{.Arg "model"}} = coalesce((SELECT m.model FROM kb_models m
                                                    WHERE {{.Tenant.m}} AND m.serving), '')
                       {{- end}}
                 {{- if .Required}}
                   AND kb_meets(coalesce(s.language, 'simple'), c.content,
                                (SELECT p.headings FROM kb_passages p WHERE {{.Tenant.p}} AND p.chunk_id = f.chunk_id),
                                {{.Arg "phrases"}}::text[], {{.Arg "never"}}::text[])
                 {{- end}}) f
         WHERE {{if .Early}}true{{else}}{{template "page" .}}{{end}}
         ORDER BY score DESC, chunk_id LIMIT {{.Arg "most"}}::integer) h
  LEFT JOIN {{.Row "kb_passages p" "p.chunk_id = h.chunk_id"}} ON true
  {{- if .Merge}}
  LEFT JOIN LATERAL (
       SELECT array_agg(e.chunk_id) AS ids
         FROM (SELECT e.chunk_id FROM kb_points e
                WHERE {{.Tenant.e}} AND e.text_hash = hashtextextended(h.content, 0) AND e.chunk_id <> h.chunk_id
                LIMIT 1000) e) e ON true
  {{- end}}
  {{- if .Diverse}}, {{.Row "kb_points pt" "pt.document_id = h.document_id AND pt.chunk_id = h.chunk_id"}}{{end}}
 ORDER BY h.score DESC, h.chunk_id
{{- end}}

{{/* One hit a document where that is asked for, and what comes behind the cursor. */}}
{{define "page" -}}
{{if .PerDocument}}first = 1{{else}}true{{end}}
{{- if .Cursor}} AND (-score, chunk_id) > ({{.Arg "cursorScore"}}::float8, {{.Arg "cursorChunk"}}::uuid){{end}}
{{- end}}
