-- Segments of the scores by day, as a share of all customers.
SELECT c.day, c.segment, c.customers, round(c.customers::numeric / NULLIF(a.customers, 0), 4) AS share
FROM {{ source('profile_stream', 'segment_counts') }} c
JOIN {{ source('profile_stream', 'segment_counts') }} a ON a.day = c.day AND a.kind = 'all'
WHERE c.kind IN ('score', 'unscored')
