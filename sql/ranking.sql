-- The best rated movies of the seven days that end with {{ ds }}; a movie needs a few votes to count.
with votes as (
    select
        "movieId"        as movie_id,
        count(*)         as votes,
        avg("rating")    as average
    from {{ ref('ratings') }}
    where _haul_unit between {{ macros.ds_add(ds, -6) | sql }} and {{ ds | sql }}
    group by "movieId"
)

select
    row_number() over (order by average desc, votes desc, movie_id) as rank,
    movie_id,
    votes,
    round(average, 3) as average
from votes
where votes >= {{ var('min_votes', 4) }}
