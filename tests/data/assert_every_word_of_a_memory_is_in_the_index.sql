-- A returned row is a memory that is not exactly once in search_documents, or whose terms in
-- search_postings are not each there once, or do not sum to its length in words.
with

documents as (

    select
        memory_id,
        count(*) as documents,
        sum(term_count) as term_count

    from {{ ref('search_documents') }}
    group by memory_id

),

postings as (

    select
        memory_id,
        count(*) as postings,
        count(distinct term) as terms,
        sum(term_frequency) as term_count

    from {{ ref('search_postings') }}
    group by memory_id

),

compared as (

    select
        coalesce(memories.memory_id, documents.memory_id, postings.memory_id) as memory_id,
        memories.memory_id is not null as is_staged,
        documents.documents,
        documents.term_count,
        postings.postings,
        postings.terms,
        postings.term_count as indexed_term_count

    from {{ ref('stg_memories') }} as memories
    full outer join documents on memories.memory_id = documents.memory_id
    full outer join postings on documents.memory_id = postings.memory_id

)

select * from compared
where
    not is_staged
    or documents is distinct from 1
    or postings is distinct from terms
    or term_count is distinct from coalesce(indexed_term_count, 0)
