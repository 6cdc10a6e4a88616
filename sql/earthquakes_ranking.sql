-- The ten strongest regions of the seven days that end with {{ ds }}.
with recent as (
    select
        -- "4km W of Castaic, CA" lies in "CA"; a place without a comma is its own region.
        split_part(properties.place, ', ', -1)   as region,
        properties.mag                           as magnitude,
        properties.place                         as place,
        make_timestamp(properties.time * 1000)   as happened_at
    from {{ ref('earthquakes') }}
    where _haul_unit between {{ macros.ds_add(ds, -6) | sql }} and {{ ds | sql }}
      and properties.type = 'earthquake'
      and properties.mag is not null
),

regions as (
    select
        region,
        max(magnitude)                                          as magnitude,
        arg_max(place, (magnitude, happened_at))                as place,
        arg_max(happened_at, (magnitude, happened_at))          as happened_at,
        count(*)                                                as events
    from recent
    group by region
)

select
    row_number() over (order by magnitude desc, happened_at, region) as rank,
    region,
    magnitude,
    place,
    happened_at,
    events
from regions
qualify rank <= {{ var('places', 10) }}
