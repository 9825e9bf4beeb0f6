-- A returned row says what is wrong with the index: a memory of the newest batch that is not exactly once
-- in search_documents, or whose terms in search_postings are not each there once or do not sum to its
-- length in words; or totals over all memories that do not agree. What was dropped with its month from
-- stg_memories stays in the index, and is not counted. (Grouping the postings of all memories
-- would cost in proportion to what is stored, at every run.)
with

newest as (

    select
        memory_id,
        batch_seq

    from {{ ref('stg_memories') }}
    where batch_seq = (select max(memories.batch_seq) from {{ ref('stg_memories') }} as memories)

),

dropped_months as (

    select 1 as is_dropped from {{ ref('stg_memories').identifier }}__months.catalog
    where state = 'dropped'

),

documents as (

    select
        memory_id,
        memory_key,
        count(*) as documents,
        sum(term_count) as term_count

    from {{ ref('search_documents') }}
    where batch_seq in (select newest.batch_seq from newest)
    group by memory_id, memory_key

),

postings as (

    select
        memory_key,
        count(*) as postings,
        count(distinct term_key) as terms,
        sum(term_frequency) as term_count

    from {{ ref('search_postings') }}
    where batch_seq in (select newest.batch_seq from newest)
    group by memory_key

),

wrong_memories as (

    select
        coalesce(
            cast(coalesce(newest.memory_id, documents.memory_id) as varchar), 'key ' || postings.memory_key
        ) as what

    from newest
    full outer join documents on newest.memory_id = documents.memory_id
    full outer join postings on documents.memory_key = postings.memory_key
    where
        (newest.memory_id is null and not exists (select 1 from dropped_months))
        or documents.documents is distinct from 1
        or postings.postings is distinct from postings.terms
        or documents.term_count is distinct from coalesce(postings.term_count, 0)

),

totals as (

    select
        (select count(*) from {{ ref('stg_memories') }}) as memories,
        (
            select count(*) from {{ ref('search_documents') }}
            where
                memory_id in (select memories.memory_id from {{ ref('stg_memories') }} as memories)
                or not exists (select 1 from dropped_months)
        ) as documents,
        (select coalesce(sum(term_count), 0) from {{ ref('search_documents') }}) as words,
        (select coalesce(sum(term_frequency), 0) from {{ ref('search_postings') }}) as indexed_words

),

wrong_totals as (

    select
        memories || ' memories and ' || documents || ' documents, ' || words || ' words and '
        || indexed_words || ' of them indexed' as what

    from totals
    where memories != documents or words != indexed_words

)

select what from wrong_memories
union all
select what from wrong_totals
