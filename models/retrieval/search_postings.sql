with

memories as (

    select * from {{ ref('stg_memories') }}
    {% if is_incremental() %}
        where batch_seq > (select coalesce(max(known.batch_seq), 0) from {{ this }} as known)
    {% endif %}

),

terms as (

    select
        memory_id,
        batch_seq,
        {{ stemmed('word') }} as term

    from (
        select
            memory_id,
            batch_seq,
            unnest({{ words('content') }}) as word
        from memories
    )

)

select
    term,
    memory_id,
    cast(count(*) as integer) as term_frequency,
    batch_seq

from terms
group by term, memory_id, batch_seq
order by term, memory_id
