{#- Search by meaning: the vectors of memories against that of a question. The one definition, for Python and the benchmark. -#}


{#- The signs of a vector's numbers, one bit each (1 above 0): a thirty-second of its size, whose Hamming distance
    grows with the angle between two vectors (Charikar 2002). As text for a query, as a column for the table. -#}
{% macro sign_bits(vector) %}{{ return(adapter.dispatch('sign_bits', 'mnemoduck')(vector)) }}{% endmacro %}

{% macro duckdb__sign_bits(vector) -%}
    cast(
        array_to_string(list_transform({{ vector }}, lambda number: case when number > 0 then '1' else '0' end), '')
        as bit
    )
{%- endmacro %}


{#- The memories whose vectors are nearest to that of a question, and those of some ids, with their similarity: the
    cosine, which is the inner product of vectors of length 1; louder where the query names who said it.

    Exactly, every vector of the scope is read. By bits, the signs are read first and the vectors of the best only.

    Cost: exactly one pass over the scope's vectors, 1.5 KB each at 384 numbers; by bits over 48 bytes each, and
    the vectors of `candidates` memories, wherever they lie. And one pass over the ids of its documents.

    vectors     table: memory_id, vector and sign_bits as in memory_embeddings
    documents   relation: the columns of search_documents; of the user
    left_out    relation: memory_key of what is not to be found (forgotten, or outside of the filters)
    names       expression, a list: words of the query, which speak of a role if they are in its name
    query       expression: the vector of the question, float[]
    query_bits  expression: its signs, bit; none for an exact search
    known_ids   expression, a list of ids whose similarity is asked for, whether they are among the nearest or not
    candidates  expression or number: how many of the nearest are looked at
    weights     pairs of a variable and the value that it is to have instead, for measurements
    condition   which rows of the table are of the user -#}
{% macro similar_memories(
    vectors, documents, left_out, names, query, query_bits, known_ids, candidates, weights=(),
    condition='true'
) %}
with

not_to_be_found as materialized (

    select memory_id from {{ documents }}
    where memory_key in (select memory_key from {{ left_out }})

),

known as materialized (

    select unnest({{ known_ids }}) as memory_id

),

{% if query_bits %}
nearest_rows as materialized (

    select row_key from (
        select rowid as row_key from {{ vectors }}
        where
            {{ condition }}
            and memory_id not in (select not_to_be_found.memory_id from not_to_be_found)
        order by bit_count(xor(sign_bits, {{ query_bits }})), memory_id
        limit {{ candidates }}
    )
    union
    select rowid from {{ vectors }}
    where
        {{ condition }}
        and memory_id in (select known.memory_id from known)

),

near as materialized (

    select
        memory_id,
        list_inner_product(vector, {{ query }}) as similarity

    from {{ vectors }}
    where rowid in (select nearest_rows.row_key from nearest_rows)

),
{% else %}
scored as materialized (

    select
        memory_id,
        list_inner_product(vector, {{ query }}) as similarity

    from {{ vectors }}
    where
        {{ condition }}
        and memory_id not in (select not_to_be_found.memory_id from not_to_be_found)

),

near as materialized (

    select * from (select * from scored order by similarity desc, memory_id desc limit {{ candidates }})
    union
    select * from scored
    where memory_id in (select known.memory_id from known)

),
{% endif %}

placed as (

    select
        documents.memory_id,
        documents.user_id,
        documents.agent_id,
        documents.content_hash,
        documents.occurred_at,
        near.memory_id in (select known.memory_id from known) as is_known,
        near.similarity * case
            when near.similarity > 0 and list_has_any({{ search_words('documents.role') }}, {{ names }})
                then {{ dict(weights).get('recall_speaker_weight', parameter('recall_speaker_weight')) }}
            else 1
        end as similarity

    from near
    inner join {{ documents }} as documents on near.memory_id = documents.memory_id

)

-- Equal texts of one user and agent are one answer: the one that words have found, else the one that is most similar.
select
    *,
    count(*) over (partition by user_id, agent_id, content_hash) as support_count

from placed
qualify
    row_number() over (
        partition by user_id, agent_id, content_hash
        order by is_known desc, similarity desc, occurred_at desc, memory_id desc
    ) = 1
order by similarity desc, occurred_at desc, memory_id desc
{% endmacro %}
