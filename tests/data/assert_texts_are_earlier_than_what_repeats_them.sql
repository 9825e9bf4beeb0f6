-- A returned row is a text whose parent is missing, was said by another speaker or not before it, or belongs
-- to another consolidated memory; or (without a parent) a text that was said and has no row.
with

texts as (

    select * from {{ ref('int_texts') }}

),

said as (

    select * from {{ ref('int_text_buckets') }}

),

astray as (

    select
        texts.text_id,
        texts.parent_text_id

    from texts
    left join texts as parents on texts.parent_text_id = parents.text_id
    where
        texts.parent_text_id is not null
        and (
            parents.text_id is null
            or (parents.first_seen_at, parents.text_id) >= (texts.first_seen_at, texts.text_id)
            or parents.consolidated_id <> texts.consolidated_id
            or parents.user_id is distinct from texts.user_id
            or parents.agent_id is distinct from texts.agent_id
            or parents.role is distinct from texts.role
        )

),

missing as (

    select
        said.text_id,
        cast(null as uuid) as parent_text_id

    from said
    left join texts on said.text_id = texts.text_id
    where texts.text_id is null or said.first_seen_at <> texts.first_seen_at

)

select
    text_id,
    parent_text_id
from astray

union all

select
    text_id,
    parent_text_id
from missing
