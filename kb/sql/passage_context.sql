-- Chunk $2 of tenant $1 in its document, with $3 bytes of the document's text before and after it.
SELECT c.id, coalesce(c.chunk_index, 0), p.headings, coalesce(p.page, 0), p.start_byte, p.end_byte, c.content, d.id,
       coalesce(d.filename, ''), greatest(0, p.start_byte - $3),
       substring(convert_to(t.content, 'UTF8') FROM greatest(0, p.start_byte - $3) + 1
                 FOR p.end_byte + $3 - greatest(0, p.start_byte - $3))
  FROM kb_chunks c
  JOIN kb_passages p ON p.tenant_id = c.tenant_id AND p.chunk_id = c.id
  JOIN kb_documents d ON d.tenant_id = c.tenant_id AND d.id = c.document_id
  JOIN kb_texts t ON t.tenant_id = c.tenant_id AND t.document_id = c.document_id
 WHERE c.tenant_id = $1 AND c.id = $2
