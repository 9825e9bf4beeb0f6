-- A returned row is a memory that is in only one of stg_memories and short_term_memories, although its month
-- was not dropped from the other. (That it is there only once is checked with the rows of each.)
with

dropped_months as (

    select
        month,
        'short_term_memories' as dropped_from

    from {{ ref('short_term_memories').identifier }}__months.catalog
    where state = 'dropped'

    union all

    select
        month,
        'stg_memories' as dropped_from

    from {{ ref('stg_memories').identifier }}__months.catalog
    where state = 'dropped'

),

missing as (

    select
        coalesce(staged.memory_id, kept.memory_id) as memory_id,
        case when kept.memory_id is null then 'short_term_memories' else 'stg_memories' end as missing_from,
        date_trunc('month', coalesce(staged.occurred_at, kept.occurred_at)) as happened_in

    from {{ ref('stg_memories') }} as staged
    full outer join {{ ref('short_term_memories') }} as kept on staged.memory_id = kept.memory_id
    where staged.memory_id is null or kept.memory_id is null

)

select
    missing.memory_id,
    missing.missing_from

from missing
left join dropped_months
    on missing.happened_in = dropped_months.month and missing.missing_from = dropped_months.dropped_from
where dropped_months.month is null
