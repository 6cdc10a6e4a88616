-- Who launched how often, and how well, in the fourteen days that end with {{ ds }}.
select
    launch_service_provider ->> 'name'                        as provider,
    count(*)                                                  as launches,
    count(*) filter ((status ->> 'abbrev') = 'Success')       as successes,
    count(distinct pad -> 'location' ->> 'name')              as sites,
    arg_max(rocket -> 'configuration' ->> 'full_name', "net") as last_rocket
from {{ ref('launches') }}
where _haul_unit between {{ macros.ds_add(ds, -13) | sql }} and {{ ds | sql }}
group by provider
