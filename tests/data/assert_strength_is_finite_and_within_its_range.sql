{#- Of the night: it evaluates all that is stored, by formulas that do not change with what arrives. -#}
{{ config(tags=['nightly']) }}

-- A returned row is a memory, short-term or long-term, whose activation is no finite number, or whose
-- retention or strength is not between 0 and 1, at the moment of the query.
with

evaluated as (

    select
        memory_id,
        activation,
        retention,
        strength

    from {{ ref('short_term') }}

    union all

    select
        consolidated_id as memory_id,
        activation,
        retention,
        strength

    from {{ ref('consolidated') }}

)

select * from evaluated
where
    (isfinite(activation) and retention between 0 and 1 and strength between 0 and 1) is not true
