-- One row a day and channel: how many came, how many converted, and what they brought.
WITH sessions AS (
  SELECT source, medium, COUNT(*) AS sessions, COUNT(DISTINCT user_pseudo_id) AS visitors, {{ count_if('engaged') }} AS engaged
  FROM {{ ref('sessions') }}
  WHERE _haul_unit = {{ ds | sql }}
  GROUP BY source, medium
),
conversions AS (
  SELECT source, medium, COUNT(*) AS conversions, SUM(revenue) AS revenue
  FROM {{ ref('conversions') }}
  WHERE _haul_unit = {{ ds | sql }}
  GROUP BY source, medium
)
SELECT
  COALESCE(s.source, c.source) AS source,
  COALESCE(s.medium, c.medium) AS medium,
  COALESCE(s.sessions, 0) AS sessions,
  COALESCE(s.visitors, 0) AS visitors,
  COALESCE(c.conversions, 0) AS conversions,
  COALESCE(c.revenue, 0) AS revenue,
  {{ safe_divide('s.engaged', 's.sessions') }} AS engagement_rate,
  {{ safe_divide('c.conversions', 's.sessions') }} AS conversion_rate
FROM sessions AS s
FULL JOIN conversions AS c ON c.source = s.source AND c.medium = s.medium
