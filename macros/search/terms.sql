{#- What is searched by: words are told apart, brought to one form and numbered. The index and the query do the
    same to them, so both take it from here. -#}

{#- The words of a text: runs of letters and digits in small letters, without accents (naïve is naive). -#}
{% macro search_words(column) %}{{ return(adapter.dispatch('search_words', 'mnemoduck')(column)) }}{% endmacro %}

{% macro duckdb__search_words(column) -%}
    regexp_extract_all(
        strip_accents(lower({{ composed_text(column) }})), '[\p{L}\p{N}]+'
    )
{%- endmacro %}


{#- The term of a word as it is stored: the number of the Porter stem of its regular form. -#}
{% macro search_terms(words) -%}
    select
        word,
        {{ stemmed('regular') }} as term,
        {{ short_key(stemmed('regular')) }} as term_key

    from ({{ regular_words(words) }})
{%- endmacro %}


{#- Each word with its regular form: went is go. -#}
{% macro regular_words(words) -%}
    select
        {{ words }}.word,
        coalesce(irregular.base, {{ words }}.word) as regular

    from {{ words }}
    left join (
        values
        {%- for group in irregular_forms().split(';') -%}
            {%- set is_last_group, forms = loop.last, group.split() -%}
            {%- for form in forms[1:] %}
            ('{{ form }}', '{{ forms[0] }}'){{ ',' if not (loop.last and is_last_group) }}
            {%- endfor -%}
        {%- endfor %}
    ) as irregular(form, base)
        on {{ words }}.word = irregular.form
{%- endmacro %}


{#- Whose memories lie together in the index: those of one user. -#}
{% macro search_user_key(user_id) -%}
    {{ short_key("coalesce('u' || " ~ user_id ~ ", '-')") }}
{%- endmacro %}


{#- What a memory is understood from: the session that the caller named, cut at midnight (UTC), so that the key never
    changes and a session that never ends is none. Without a name a memory stands alone. -#}
{% macro search_session_key(user_id, agent_id, session_id, occurred_at, memory_id) -%}
    {{ short_key(
        'case when ' ~ session_id ~ ' is null then cast(' ~ memory_id ~ ' as varchar) else cast('
        ~ hash_key([user_id, agent_id, session_id, 'cast(' ~ occurred_at ~ ' as date)']) ~ ' as varchar) end'
    ) }}
{%- endmacro %}


{#- Whether a text asks something: it ends with a question mark, whatever closes after it. -#}
{% macro is_question(column) -%}
    regexp_matches({{ column }}, '[?？؟][\s"”’'')\]}*_]*$')
{%- endmacro %}


{#- Words that a question is made of and not about. They are in the index, and only left out of a query that has
    others. -#}
{% macro stop_words() %}
    {{ return((
        "a about am an and any are as at be been being but by can could did do does doing for from had has have having "
        ~ "he her hers him his how i if in into is it its itself me my myself no nor not of on or our ours she should "
        ~ "so some such than that the their theirs them then there these they this those to too us was we were what "
        ~ "when where which who whom whose why will with would you your yours d ll m re s t ve"
    )) }}
{% endmacro %}


{#- Roles that say what somebody or something is, and are nobody's name: who asks about a tool means a tool. -#}
{% macro impersonal_roles() %}
    {{ return(
        "user assistant system tool function developer human ai agent bot model note event customer speaker other "
        ~ "unknown"
    ) }}
{% endmacro %}


{#- Words that name a role without its name, after it: who asks is the user, who is asked the assistant. -#}
{% macro spoken_roles() %}
    {{ return('user i me my mine myself we us our ours; assistant you your yours yourself') }}
{% endmacro %}
