-- What each video was watched in the seven days that end with {{ ds }}; a row's values stand in the order of the metrics.
select
    video_id,
    count(*)                             as days,
    sum(value[1])::bigint                as views,
    sum(value[2])::bigint                as minutes,
    sum(value[3])::bigint                as likes
from {{ ref('video_days') }}
where _haul_unit between {{ macros.ds_add(ds, -6) | sql }} and {{ ds | sql }}
group by video_id
