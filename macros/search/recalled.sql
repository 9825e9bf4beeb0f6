{#- What the table function `recall` answers with: the words of a question, ranked as everywhere, with the rows of the
    winners. No extension is needed. A part of the scope that is null means any. Names of the user's speakers are
    not searched for, as in recall/speakers.py. -#}
{% macro recalled(documents, postings, forgotten, memories, now) %}
{%- set moment = 'coalesce(at_time, ' ~ now ~ ')' -%}
{%- set of_user = '(for_user is null or user_key = ' ~ search_user_key('for_user') ~ ')' -%}
{#- The number of a user finds the rows; the id tells whose they are. -#}
{%- set of_documents = '(select *, false as is_fresh from ' ~ documents ~ ' where ' ~ of_user
    ~ ' and (for_user is null or user_id = for_user))' -%}
{%- set of_postings = '(select * from ' ~ postings ~ ' where ' ~ of_user
    ~ ' and term_key in (select terms.term_key from terms))' -%}
{%- set left_out = '(select memory_key from ' ~ of_documents ~ ' where occurred_at > ' ~ moment
    ~ ' or not (for_agent is null or agent_id is not distinct from for_agent)'
    ~ ' or not (for_session is null or session_id is not distinct from for_session)'
    ~ ' union all select memory_key from ' ~ forgotten ~ ' where forgotten_at <= ' ~ moment ~ ')' -%}
with

asked as materialized (

    select distinct unnest({{ search_words('piece') }}) as word
    from (select unnest([cast(question as varchar)]) as piece)

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

{% if not parameter('recall_names') -%}
-- Whoever has more speakers than that has no conversations.
speakers as materialized (

    select distinct unnest({{ search_words('role') }}) as word
    from (select role from {{ of_documents }} group by role order by count(*) desc, role limit 1000)

),

not_only_names as materialized (

    select word from telling
    where
        list_contains(string_split('{{ impersonal_roles() }}', ' '), word)
        or word not in (select speakers.word from speakers)

),

{% endif -%}
searched as materialized (

    {% if parameter('recall_names') -%}
    select word from telling
    {%- else -%}
    select word from not_only_names
    union all
    select word from telling
    where not exists (from not_only_names)
    {%- endif %}

),

regular as materialized (

    {{ regular_words('searched') }}

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
