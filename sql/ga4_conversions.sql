-- One row a conversion: the session that it belongs to, and what the shop knows of who it was.
WITH conversions AS (
  SELECT
    user_pseudo_id,
    user_id,
    event_name,
    event_timestamp,
    {{ event_param('ga_session_id', 'int') }} AS session_id,
    COALESCE({{ field('ecommerce', 'purchase_revenue', 'float') }}, {{ event_param('value', 'float') }}) AS revenue,
    {{ field('ecommerce', 'transaction_id') }} AS transaction_id
  FROM {{ ref('events') }} AS e
  WHERE _haul_unit = {{ ds | sql }} AND event_name IN {{ var('conversions') | sql }}
)
SELECT
  {{ hash(['c.user_pseudo_id', 'c.event_name', 'c.event_timestamp']) }} AS conversion_key,
  c.event_name,
  {{ timestamp_micros('c.event_timestamp') }} AS converted_at,
  c.user_pseudo_id,
  c.user_id,
  c.transaction_id,
  COALESCE(c.revenue, 0) AS revenue,
  COALESCE(s.source, '(direct)') AS source,
  COALESCE(s.medium, '(none)') AS medium,
  COALESCE(u.plan, 'none') AS plan,
  {{ date_diff(timestamp_micros('c.event_timestamp'), 'u.signed_up_at') }} AS days_since_sign_up
FROM conversions AS c
LEFT JOIN {{ ref('sessions') }} AS s
  ON s.user_pseudo_id = c.user_pseudo_id AND s.session_id = c.session_id
  AND s._haul_unit >= {{ ds | date_add(-1) | sql }} AND s._haul_unit <= {{ ds | sql }}
LEFT JOIN {{ ref('users') }} AS u ON u.user_id = c.user_id
