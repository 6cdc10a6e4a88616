-- One row for {{ ds }}: how many earthquakes, how strong, and how many of them somebody has looked at.
select
    {{ ds | sql }}                                                                as day,
    count(*)                                                                      as events,
    max(properties.mag)                                                           as strongest,
    arg_max(properties.place, properties.mag)                                     as strongest_at,
    count(*) filter (properties.mag >= 4.5)                                       as widely_felt,
    round(count(*) filter (properties.status = 'reviewed') / nullif(count(*), 0), 3) as reviewed_share
from {{ ref('earthquakes') }}
where _haul_unit = {{ ds | sql }}
  and properties.type = 'earthquake'
