-- How many pieces the passages of tenant $1 have beside their own vectors, and how many one of them has at most.
SELECT coalesce(sum(p.pieces), 0), coalesce(max(p.pieces), 0)
  FROM (SELECT count(*) AS pieces FROM kb_points
         WHERE tenant_id = $1 AND piece_of IS NOT NULL GROUP BY piece_of) p
