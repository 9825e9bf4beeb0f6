{#- The memories that match terms best, best first, with what their scores are made of. The one definition of lexical
    recall: the table function `recall` and the Python package both take it from here.

    A memory's own score is its BM25 (Robertson & Zaragoza 2009). What is said is understood from what was said around
    it, so neighbours in the session add theirs, less with distance; an answer takes from the question before it, and
    a question tells less than an answer; who is named speaks louder; and the session as a whole has a BM25, over
    the sessions. Sessions are told apart first: those are looked into that hold the best memories or match
    best themselves. Statistics are those of the rows that are given: of one user, or of all. Equal texts of one
    user and agent are one answer: the one that matches best, of equals the last.

    Cost: one pass over the postings of the terms, two over columns of documents, and the documents of some sessions.

    postings    relation: term_key, memory_key, session_key, term_frequency, term_count; of the terms and the user
    documents   relation: the columns of search_documents and is_fresh; of the user
    left_out    relation: memory_key of what is not to be found (forgotten, or outside of the filters); empty text: nothing is
    names       expression, a list: words of the query, which speak of a role if they are in its name
    sessions    expression or number: how many sessions are looked into; if there were as many, session_count says it
    limit       expression or number: how many answers are wanted
    weights     pairs of a variable and the value that it is to have instead, for measurements
    only        relation: memory_key of what may be an answer; empty text: everything -#}
{% macro ranked_memories(postings, documents, left_out, names, sessions, limit, weights=(), only='') %}
{%- set weight = {} -%}
{%- for name in [
    'recall_saturation', 'recall_length_weight', 'recall_session_length_weight', 'recall_neighbour_weight',
    'recall_second_neighbour_weight', 'recall_answer_weight', 'recall_question_weight',
    'recall_speaker_weight', 'recall_session_weight',
] -%}
    {%- do weight.update({name: dict(weights).get(name, parameter(name))}) -%}
{%- endfor -%}
{%- set neighbour = "{'session_key': session_key, 'occurred_at': occurred_at, 'is_question': is_question, "
    ~ "'own_score': own_score}" -%}
with

hits as materialized (

    select term_key, memory_key, session_key, term_frequency, term_count from {{ postings }}

),

{% if left_out -%}
not_to_be_found as materialized (

    select memory_key from {{ left_out }}

),

{% endif -%}
term_weights as materialized (

    select
        occurring.term_key,
        corpus.average_length,
        ln(1 + (corpus.document_count - occurring.document_count + 0.5e0) / (occurring.document_count + 0.5e0))
            as weight

    from (select term_key, cast(count(*) as double) as document_count from hits group by term_key) as occurring
    cross join (
        select cast(count(*) as double) as document_count, cast(avg(term_count) as double) as average_length
        from {{ documents }}
    ) as corpus

),

findable as {{ 'materialized' if left_out }} (

    select * from hits
    {% if left_out -%}
    where memory_key not in (select not_to_be_found.memory_key from not_to_be_found)
    {%- endif %}

),

own_scores as materialized (

    select
        findable.memory_key,
        max(findable.session_key) as session_key,
        max(findable.term_count) as term_count,
        {{ summed(bm25(
            'term_weights.weight', 'findable.term_frequency',
            'findable.term_count / term_weights.average_length', weight.recall_length_weight,
            weight.recall_saturation
        )) }} as own_score

    from findable
    inner join term_weights on findable.term_key = term_weights.term_key
    group by findable.memory_key

),

session_terms as materialized (

    select
        session_key,
        term_key,
        cast(sum(term_frequency) as double) as term_frequency

    from findable
    group by session_key, term_key

),

session_lengths as materialized (

    select
        session_key,
        cast(sum(term_count) as bigint) as term_count,
        max(own_score) as best_score

    from own_scores
    group by session_key

),

session_weights as (

    select
        occurring.term_key,
        corpus.average_length,
        ln(1 + (corpus.session_count - occurring.session_count + 0.5e0) / (occurring.session_count + 0.5e0))
            as weight

    from (
        select term_key, cast(count(*) as double) as session_count from session_terms group by term_key
    ) as occurring
    cross join (
        select cast(count(*) as double) as session_count, avg(term_count) as average_length
        from session_lengths
    ) as corpus

),

session_scores as (

    select
        session_terms.session_key,
        max(session_lengths.best_score) as best_score,
        {{ summed(bm25(
            'session_weights.weight', 'session_terms.term_frequency',
            'session_lengths.term_count / session_weights.average_length',
            weight.recall_session_length_weight, weight.recall_saturation
        )) }} as session_score

    from session_terms
    inner join session_weights on session_terms.term_key = session_weights.term_key
    inner join session_lengths on session_terms.session_key = session_lengths.session_key
    group by session_terms.session_key

),

sessions as materialized (

    select
        session_key,
        session_score / max(session_score) over () as session_score

    from session_scores
    order by
        best_score / max(best_score) over ()
        + {{ weight.recall_session_weight }} * session_score / max(session_score) over () desc,
        session_key
    limit {{ sessions }}

),

said as materialized (

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
        sessions.session_score,
        coalesce(own_scores.own_score, 0) as own_score

    from {{ documents }} as documents
    inner join sessions on documents.session_key = sessions.session_key
    left join (
        select memory_key, own_score from own_scores
        where session_key in (select sessions.session_key from sessions)
    ) as own_scores on documents.memory_key = own_scores.memory_key
    {% if left_out -%}
    where documents.memory_key not in (select not_to_be_found.memory_key from not_to_be_found)
    {%- endif %}

),

-- One window over all sessions: DuckDB takes several times as long for one that is partitioned.
surrounded as (

    select
        *,
        {% for place, shift in [('before', 'lag(%s)'), ('before_that', 'lag(%s, 2)'),
            ('after', 'lead(%s)'), ('after_that', 'lead(%s, 2)')] %}
            {{ shift % neighbour }} over in_order as {{ place }}{{ ',' if not loop.last }}
        {%- endfor %}

    from said
    window in_order as (order by session_key, occurred_at, memory_id)

),

parts as (

    select
        surrounded.*,
        surrounded.own_score
        * case when surrounded.is_question then {{ weight.recall_question_weight }} else 1 end as own_part,
        {{ weight.recall_neighbour_weight }} * ({{ near('before') }} + {{ near('after') }})
        + {{ weight.recall_second_neighbour_weight }} * ({{ near('before_that') }} + {{ near('after_that') }})
        + {{ weight.recall_answer_weight }}
        * case when surrounded.before.is_question then {{ near('before') }} else 0 end as context_part,
        case
            when list_has_any({{ role_names('surrounded.role') }}, {{ names }}) then {{ weight.recall_speaker_weight }}::double
            else 1e0
        end as speaker_factor

    from surrounded

),

matched as (

    select
        *,
        (own_part + context_part) * speaker_factor as lexical_score

    from parts
    where own_part + context_part > 0{{ ' and memory_key in (select memory_key from ' ~ only ~ ')' if only }}

),

scored as (

    select
        *,
        {{ weight.recall_session_weight }} * session_score * max(lexical_score) over () as session_part

    from matched

),

-- Equal texts of one user and agent are one answer: the greatest in the order of these values, the first of which
-- decide.
answers as materialized (

    select
        count(*) as support_count,
        max({
            'score': lexical_score + session_part,
            'occurred_at': occurred_at,
            'memory_id': memory_id,
            'memory_key': memory_key,
            'user_id': user_id,
            'agent_id': agent_id,
            'session_key': session_key,
            'content_hash': content_hash,
            'own_score': own_part * speaker_factor,
            'context_score': context_part * speaker_factor,
            'session_score': session_part,
            'speaker_factor': speaker_factor,
            'is_fresh': is_fresh
        }) as best

    from scored
    group by user_id, agent_id, content_hash
    order by best desc
    limit {{ limit }}

)

select
    unnest(answers.best),
    answers.support_count,
    matches.term_keys,
    (select count(*) from sessions) as session_count

from answers
left join (
    select memory_key, list(term_key) as term_keys from findable
    where memory_key in (select best.memory_key from answers)
    group by memory_key
) as matches on answers.best.memory_key = matches.memory_key
order by answers.best desc
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


{#- A sum of scores that is the same in any order of its rows, which a sum of floating-point numbers is not: they are
    added up in billionths. -#}
{% macro summed(score) -%}
    cast(sum(cast(1e9 * {{ score }} as bigint)) as double) / 1e9
{%- endmacro %}


{#- The score of a neighbour, if it was said in the same session with no longer silence between. -#}
{% macro near(place) -%}
    case
        when
            surrounded.{{ place }}.session_key = surrounded.session_key
            and abs(epoch_us(surrounded.{{ place }}.occurred_at) - epoch_us(surrounded.occurred_at))
                <= {{ parameter('session_gap_minutes') }} * 60000000
            then surrounded.{{ place }}.own_score
        else 0
    end
{%- endmacro %}


{#- The words of a role, as in search_words, but told apart by blanks and the punctuation of ASCII: to compile the
    expression that knows every script's letters takes DuckDB longer than all the rest of a query. -#}
{% macro role_names(role) %}{{ return(adapter.dispatch('role_names', 'mnemoduck')(role)) }}{% endmacro %}

{% macro duckdb__role_names(role) -%}
    string_split(
        translate(
            strip_accents(lower(nfc_normalize(replace({{ role }}, chr(0), ' ')))),
            '!"#$%&()*+,-./:;<=>?@[]^_`{|}~' || chr(39) || chr(92) || chr(9) || chr(10) || chr(13),
            repeat(' ', 35)
        ),
        ' '
    )
{%- endmacro %}
