{#- What the table function `recall` answers with: the words of a question, ranked as everywhere, with the rows of the
    winners. No extension is needed. A part of the scope that is null means any. -#}
{% macro recalled(documents, postings, forgotten, memories, now) %}
{%- set moment = 'coalesce(at_time, ' ~ now ~ ')' -%}
{%- set of_user = '(for_user is null or user_key = ' ~ search_user_key('for_user') ~ ')' -%}
{%- set of_documents = '(select *, false as is_fresh from ' ~ documents ~ ' where ' ~ of_user ~ ')' -%}
{%- set of_postings = '(select * from ' ~ postings ~ ' where ' ~ of_user
    ~ ' and term_key in (select terms.term_key from terms))' -%}
{%- set left_out = '(select memory_key from ' ~ of_documents ~ ' where occurred_at > ' ~ moment
    ~ ' or not (for_agent is null or agent_id is not distinct from for_agent)'
    ~ ' or not (for_session is null or session_id is not distinct from for_session)'
    ~ ' union all select memory_key from ' ~ forgotten ~ ' where forgotten_at <= ' ~ moment ~ ')' -%}
with

asked as materialized (

    select distinct unnest({{ search_words('cast(question as varchar)') }}) as word

),

telling as materialized (

    select word from asked
    where
        not list_contains(string_split('{{ stop_words() }}', ' '), word)
        or not exists (
            select 1 from asked as other
            where not list_contains(string_split('{{ stop_words() }}', ' '), other.word)
        )

),

names as materialized (

    select list(word) as words
    from (
        select word from telling
        {%- for group in spoken_roles().split(';') %}
        union all
        select '{{ group.split()[0] }}' as word
        where exists (select 1 from asked where asked.word in ('{{ group.split()[1:] | join("', '") }}'))
        {%- endfor %}
    )

),

regular as materialized (

    {{ regular_words('telling') }}

),

terms as materialized (

    select distinct
        stem as term,
        {{ short_key('stem') }} as term_key

    from ({{ porter_stems('(select regular as word from regular)') }})

),

ranked as materialized (

    {{ ranked_memories(
        of_postings, of_documents, left_out, '(select names.words from names)',
        'greatest(' ~ parameter('recall_sessions') ~ ', most)', 'most'
    ) }}

)

select
    row_number() over (order by ranked.score desc, ranked.occurred_at desc, ranked.memory_id desc) as rank,
    ranked.memory_id,
    memories.content,
    memories.role,
    ranked.user_id,
    ranked.agent_id,
    memories.session_id,
    ranked.occurred_at,
    ranked.score,
    ranked.own_score as words_score,
    ranked.context_score,
    ranked.session_score,
    ranked.speaker_factor,
    coalesce((
        select list(terms.term order by terms.term) from terms
        where list_contains(ranked.term_keys, terms.term_key)
    ), []) as matched_terms,
    ranked.support_count

from ranked
inner join (
    select memory_id, content, role, session_id from {{ memories }}
    where memory_id in (select ranked.memory_id from ranked)
) as memories on ranked.memory_id = memories.memory_id
order by rank
{% endmacro %}
