-- Bytes $3 and the $4 - 1 that follow of the text of document $2 of tenant $1, and how many bytes the text has. A
-- document that another client wrote has no text of its own: its chunks in order stand for it.
SELECT octet_length(t.whole), substring(t.whole FROM $3::int + 1 FOR $4::int)
  FROM (SELECT coalesce(
                 (SELECT convert_to(x.content, 'UTF8') FROM kb_texts x
                   WHERE x.tenant_id = d.tenant_id AND x.document_id = d.id),
                 (SELECT convert_to(string_agg(c.content, E'\n\n' ORDER BY c.chunk_index, c.id), 'UTF8')
                    FROM kb_chunks c WHERE c.tenant_id = d.tenant_id AND c.document_id = d.id), '') AS whole
          FROM kb_documents d
         WHERE d.tenant_id = $1 AND d.id = $2) t
