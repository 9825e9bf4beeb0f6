{#- A view over the catalogs of the months, so it knows, too, what was archived or dropped since the build.
    All partitioned models come before it: partitioned_catalogs() stops the run if one is not named. -#}
-- depends_on: {{ ref('stg_memories') }}
-- depends_on: {{ ref('short_term_memories') }}
-- depends_on: {{ ref('consolidated_memories') }}
-- depends_on: {{ ref('session_gists') }}
{{ config(materialized='view') }}

with

months as (

    {{ partitioned_catalogs() | indent(4) }}

),

final as (

    select
        -- ids
        model,
        month,

        -- strings
        case state when 'hot' then 'table' when 'cold' then 'archived' else state end as state,
        archive_file as file,

        -- numbers
        case when state <> 'dropped' then row_count end as rows,
        case when state = 'hot' then tail_rows end as tail_rows,
        case when state = 'cold' then archive_bytes end as bytes

    from months

)

select * from final
