-- Value of transactions by day and segment of today, also for days and segments without any.
{% set days = var('days', 90) %}
{% set zone = var('time_zone', 'UTC') %}
WITH days AS (
    SELECT d::date AS day FROM generate_series((now() AT TIME ZONE '{{ zone }}')::date - {{ days }}, (now() AT TIME ZONE '{{ zone }}')::date, interval '1 day') d
), segments AS (
    SELECT DISTINCT COALESCE(c.segment, 'unscored') AS segment FROM {{ ref('customers') }} c
), moved AS (
    SELECT m.day, COALESCE(c.segment, 'unscored') AS segment, sum(m.count) AS transactions, sum(m.sum) AS value, count(*) AS customers
    FROM profile_stream.metric_days('total_transaction_value_30d', (now() AT TIME ZONE '{{ zone }}')::date - {{ days }}, (now() AT TIME ZONE '{{ zone }}')::date, '{{ zone }}') m
    JOIN {{ ref('customers') }} c USING (customer_id) GROUP BY 1, 2
)
SELECT days.day, segments.segment, COALESCE(m.transactions, 0) AS transactions, COALESCE(m.value, 0)::numeric(38,4) AS value, COALESCE(m.customers, 0) AS customers
FROM days CROSS JOIN segments LEFT JOIN moved m USING (day, segment)
