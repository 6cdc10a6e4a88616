-- One row a session, on the day on which it began; what it does after midnight is not counted.
WITH events AS (
  SELECT
    _haul_unit AS day,
    user_pseudo_id,
    user_id,
    event_name,
    event_timestamp,
    {{ event_param('ga_session_id', 'int') }} AS session_id,
    {{ event_param('page_location') }} AS page,
    {{ event_param('engagement_time_msec', 'int') }} AS engaged_msec,
    {{ field('traffic_source', 'source') }} AS source,
    {{ field('traffic_source', 'medium') }} AS medium,
    {{ field('device', 'category') }} AS device,
    {{ field('geo', 'country') }} AS country
  FROM {{ ref('events') }} AS e
  WHERE _haul_unit >= {{ ds | date_add(-1) | sql }} AND _haul_unit <= {{ ds | sql }}
)
SELECT
  {{ hash(['user_pseudo_id', 'session_id']) }} AS session_key,
  user_pseudo_id,
  session_id,
  {{ latest('user_id', 'event_timestamp') }} AS user_id,
  {{ timestamp_micros('MIN(event_timestamp)') }} AS started_at,
  {{ timestamp_diff(timestamp_micros('MAX(event_timestamp)'), timestamp_micros('MIN(event_timestamp)')) }} AS seconds,
  COUNT(*) AS events,
  {{ count_if("event_name = 'page_view'") }} AS page_views,
  COALESCE(SUM(engaged_msec), 0) >= 10000 OR {{ count_if("event_name = 'page_view'") }} > 1 AS engaged,
  {{ regexp_extract(earliest('page', 'event_timestamp'), '^https?://[^/?#]+([^?#]*)') }} AS landing_page,
  COALESCE({{ earliest('source', 'event_timestamp') }}, '(direct)') AS source,
  COALESCE({{ earliest('medium', 'event_timestamp') }}, '(none)') AS medium,
  {{ earliest('device', 'event_timestamp') }} AS device,
  {{ earliest('country', 'event_timestamp') }} AS country
FROM events
WHERE session_id IS NOT NULL
GROUP BY user_pseudo_id, session_id
HAVING MIN(day) = {{ ds | sql }}
