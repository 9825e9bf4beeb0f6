with

memories as (

    select * from {{ ref('stg_memories') }}
    {% if is_incremental() %}
        where batch_seq > (select coalesce(max(known.batch_seq), 0) from {{ this }} as known)
    {% endif %}

)

select
    memory_id,
    cast(len({{ words('content') }}) as integer) as term_count,
    batch_seq

from memories
