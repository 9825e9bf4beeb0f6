{#- The memories that match terms best, with what their scores are made of. The one definition of lexical recall: the
    table function `recall` and the Python package both take it from here.

    A memory's own score is its BM25 (Robertson & Zaragoza 2009). What is said is understood from what was said around
    it, so neighbours in the session add theirs, less with distance; an answer takes from the question before it, and
    a question tells less than an answer; who is named speaks louder; and the session as a whole has a BM25, over
    the sessions. Sessions are told apart first: those are looked into that hold the best memories or match
    best themselves. Statistics are those of the rows that are given: of one user, or of all.

    Cost: one pass over the postings of the terms, one over documents, and the documents of some sessions.

    postings    relation: term_key, memory_key, session_key, term_frequency, term_count; of the terms and the user
    documents   relation: the columns of search_documents; of the user
    left_out    relation: memory_key of what is not to be found (forgotten, or outside of the filters)
    names       expression, a list: words of the query, which speak of a role if they are in its name
    sessions    expression or number: how many sessions are looked into; if there were as many, session_count says it
    weights     pairs of a variable and the value that it is to have instead, for measurements -#}
{% macro ranked_memories(postings, documents, left_out, names, sessions, weights=()) %}
{%- set weight = {} -%}
{%- for name in [
    'recall_saturation', 'recall_length_weight', 'recall_session_length_weight', 'recall_neighbour_weight',
    'recall_second_neighbour_weight', 'recall_answer_weight', 'recall_question_weight',
    'recall_speaker_weight', 'recall_session_weight',
] -%}
    {%- do weight.update({name: dict(weights).get(name, parameter(name))}) -%}
{%- endfor -%}
with

not_to_be_found as materialized (

    select memory_key from {{ left_out }}

),

hits as materialized (

    select * from {{ postings }}

),

corpus as materialized (

    select
        cast(count(*) as double) as document_count,
        cast(avg(term_count) as double) as average_length

    from {{ documents }}

),

term_weights as materialized (

    select
        occurring.term_key,
        ln(1 + (corpus.document_count - occurring.document_count + 0.5e0) / (occurring.document_count + 0.5e0))
            as weight

    from (select term_key, cast(count(*) as double) as document_count from hits group by term_key) as occurring
    cross join corpus

),

findable as (

    select hits.* from hits
    where hits.memory_key not in (select not_to_be_found.memory_key from not_to_be_found)

),

own_scores as materialized (

    select
        findable.memory_key,
        any_value(findable.session_key) as session_key,
        any_value(findable.term_count) as term_count,
        list(findable.term_key) as term_keys,
        sum({{ bm25(
            'term_weights.weight', 'findable.term_frequency',
            'findable.term_count / corpus.average_length', weight.recall_length_weight,
            weight.recall_saturation
        ) }}) as own_score

    from findable
    inner join term_weights on findable.term_key = term_weights.term_key
    cross join corpus
    group by findable.memory_key

),

session_lengths as materialized (

    select
        session_key,
        cast(sum(term_count) as double) as term_count,
        max(own_score) as best_score

    from own_scores
    group by session_key

),

session_terms as (

    select
        session_key,
        term_key,
        cast(sum(term_frequency) as double) as term_frequency

    from findable
    group by session_key, term_key

),

session_corpus as (

    select
        cast(count(*) as double) as session_count,
        avg(term_count) as average_length

    from session_lengths

),

session_weights as (

    select
        occurring.term_key,
        ln(
            1 + (session_corpus.session_count - occurring.session_count + 0.5e0)
            / (occurring.session_count + 0.5e0)
        ) as weight

    from (
        select term_key, cast(count(*) as double) as session_count from session_terms group by term_key
    ) as occurring
    cross join session_corpus

),

session_scores as (

    select
        session_terms.session_key,
        sum({{ bm25(
            'session_weights.weight', 'session_terms.term_frequency',
            'session_lengths.term_count / session_corpus.average_length',
            weight.recall_session_length_weight, weight.recall_saturation
        ) }}) as session_score

    from session_terms
    inner join session_weights on session_terms.term_key = session_weights.term_key
    inner join session_lengths on session_terms.session_key = session_lengths.session_key
    cross join session_corpus
    group by session_terms.session_key

),

sessions as materialized (

    select
        session_scores.session_key,
        session_scores.session_score / max(session_scores.session_score) over () as session_score

    from session_scores
    inner join session_lengths on session_scores.session_key = session_lengths.session_key
    order by
        session_lengths.best_score / max(session_lengths.best_score) over ()
        + {{ weight.recall_session_weight }} * session_scores.session_score
        / max(session_scores.session_score) over () desc,
        session_scores.session_key
    limit {{ sessions }}

),

said as (

    select
        documents.memory_id,
        documents.memory_key,
        documents.session_key,
        documents.user_id,
        documents.agent_id,
        documents.content_hash,
        documents.role,
        documents.is_question,
        documents.occurred_at,
        documents.is_fresh,
        coalesce(own_scores.own_score, 0) as own_score,
        own_scores.term_keys

    from {{ documents }} as documents
    left join (
        select * from own_scores where session_key in (select sessions.session_key from sessions)
    ) as own_scores on documents.memory_key = own_scores.memory_key
    where
        documents.session_key in (select sessions.session_key from sessions)
        and documents.memory_key not in (select not_to_be_found.memory_key from not_to_be_found)

),

surrounded as (

    select
        *,
        {% for place, shift in [('before', 'lag(%s)'), ('before_that', 'lag(%s, 2)'),
            ('after', 'lead(%s)'), ('after_that', 'lead(%s, 2)')] %}
            coalesce(case
                when abs(epoch_us({{ shift % 'occurred_at' }} over in_session) - epoch_us(occurred_at))
                    <= {{ parameter('session_gap_minutes') }} * 60000000
                    then {{ shift % 'own_score' }} over in_session
            end, 0) as {{ place }},
        {% endfor %}
        coalesce(lag(is_question) over in_session, false) as is_after_question

    from said
    window in_session as (partition by session_key order by occurred_at, memory_id)

),

parts as (

    select
        *,
        own_score * case when is_question then {{ weight.recall_question_weight }} else 1 end as own_part,
        {{ weight.recall_neighbour_weight }} * (before + after)
        + {{ weight.recall_second_neighbour_weight }} * (before_that + after_that)
        + {{ weight.recall_answer_weight }} * case when is_after_question then before else 0 end
            as context_part,
        case
            when list_has_any({{ search_words('role') }}, {{ names }}) then {{ weight.recall_speaker_weight }}
            else 1
        end as speaker_factor

    from surrounded

),

matched as (

    select
        parts.*,
        (parts.own_part + parts.context_part) * parts.speaker_factor as lexical_score,
        sessions.session_score

    from parts
    inner join sessions on parts.session_key = sessions.session_key
    where parts.own_part + parts.context_part > 0

)

select
    memory_id,
    memory_key,
    user_id,
    agent_id,
    content_hash,
    occurred_at,
    is_fresh,
    term_keys,
    own_part * speaker_factor as own_score,
    context_part * speaker_factor as context_score,
    {{ weight.recall_session_weight }} * session_score * max(lexical_score) over () as session_score,
    speaker_factor,
    (select count(*) from sessions) as session_count,
    lexical_score
    + {{ weight.recall_session_weight }} * session_score * max(lexical_score) over () as score

from matched
{% endmacro %}


{#- BM25 of one term in one text: its weight, how often it is there, and the length of the text in average lengths. The
    constants are doubles: decimals would overflow. -#}
{% macro bm25(weight, frequency, relative_length, length_weight, saturation) -%}
    {{ weight }} * {{ frequency }} * ({{ saturation }}::double + 1)
    / (
        {{ frequency }}
        + {{ saturation }}::double
        * (1 - {{ length_weight }}::double + {{ length_weight }}::double * {{ relative_length }})
    )
{%- endmacro %}
