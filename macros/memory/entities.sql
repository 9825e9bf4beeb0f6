{#- Names in a text, without a model: runs of capitalised words. No kind is told (person, place, tool): nothing
    in the text says so.

    A capitalised word is out if concepts.sql has it in its lists or by its ending (function words, common verbs
    and adjectives, greetings, days and months), or if it is one letter. Words side by side are one name, also
    with of, de, von and the like between. A word at the beginning of a sentence is capitalised anyway: alone it
    is a name only if the text has it elsewhere as well. A text that capitalises more than two of three words (a
    heading, shouting) tells nothing. In German every noun is capitalised: there only names of two words and more
    count.

    What comes out is a guess of good precision in English prose. It misses names in lower case and names that only begin
    sentences, takes titles and products for names as well, and has Maya and Maya Keller as two. Scripts
    without capitals have no names here. -#}


{#- Expression, the names of a text in order, each once: at most 20 of its first 2,000 characters. -#}
{% macro entity_names(column) %}
    {{- return(adapter.dispatch('entity_names', 'mnemoduck')(column)) -}}
{% endmacro %}

{% macro duckdb__entity_names(column) -%}
    case
        when regexp_matches({{ column }}, '{{ sign_of_a_name() }}') then {{ names_in_words(column) }}
        when {{ column }} is not null then cast([] as varchar[])
    end
{%- endmacro %}


{#- A regular expression that every text with a name matches, and most without do not: a capitalised word after
    something else than the end of a sentence, which may be a title's full stop or hidden in an address or in code.
    In one pass, it costs a fiftieth of what it spares. I is no name, unless more letters or a digit follow.
    Of characters that NFC is yet to compose, the first is a capital already; three that are one character stand here. -#}
{% macro sign_of_a_name() -%}
    (?:[^.!?…:\n\s][^.!?…:\n]*[^.!?…:\n\p{L}\p{N}]|[^.!?…:\n\s\p{L}\p{N}])
    {{- '' -}}
    (?:[{{ capitals('A-HJ-Z') }}\x{212a}\x{212b}\x{2126}]|I[\p{L}\p{M}\p{N}&-]|I[''’][^\s]*[0-9])
    {{- '' -}}
    |(?:Dr|Mr|Mrs|Ms|Prof|St)\.|@|`|://|www\.
{%- endmacro %}


{#- The capitals that a name can begin with, as ranges of a character class. -#}
{% macro capitals(latin='A-Z') -%}
    {{ latin }}À-ÖØ-ÞĀĂĄĆČĎĐĒĘĚĞĢĪİĶĹĻĽŁŃŅŇŌŐŒŔŘŚŞŠŢŤŪŮŰŹŻŽΑ-ΩЀ-Я
{%- endmacro %}


{#- The names where there may be one. Each word becomes =word (may be a name), +word (can begin one), ~word (can stand within one), # (capitalised, but
    no name) or |; the end of a sentence becomes a full stop, other marks a comma. Then a name is found by one search, with
    the full stop if it stands after one. A list of one element that is transformed is how an expression is named. -#}
{% macro names_in_words(column) -%}
{%- set text -%}
    regexp_replace(
        left({{ composed_text(column, "' '") }}, 2000),
        '(?:https?://|www\.)[^\s]+|[^\s@]+@[^\s]+|`[^`]*`', ' , ', 'g'
    )
{%- endset -%}
{%- set marked -%}
    list_transform(
        regexp_extract_all(
            text,
            '\b(?:Dr|Mr|Mrs|Ms|Prof|St)\.|[\p{L}\p{M}\p{N}]+(?:[''’&-][\p{L}\p{M}\p{N}]+)*|[.!?…:\n]+|[,;()"“”«»\[\]{}/|*•#~+<>=_]+'
        ),
        lambda word: case
            -- Most words by far, without a regular expression.
            when word >= 'a' and word < '{'
                then case
                    when
                        word in (
                            'of', 'de', 'del', 'della', 'da', 'di', 'du', 'van', 'von', 'der', 'den', 'la', 'le',
                            'al', 'bin', 'ibn', 'dos', 'el'
                        )
                        then '~' || word
                    else '|'
                end
            when regexp_matches(word, '^[.!?…:\n]') then '.'
            when not regexp_matches(word, '^[\p{L}\p{N}]') then ','
            when not regexp_matches(word, '^[{{ capitals() }}]') then '|'
            when contains(' {{ words_of_names() }} ', ' ' || word || ' ') then '+' || word
            when contains(' {{ words_that_are_concepts_all_the_same() }} ', ' ' || word || ' ') then '=' || word
            when regexp_matches(word, '^[OD][''’][{{ capitals() }}]') then '=' || regexp_replace(word, '[''’]s?$', '')
            when
                regexp_matches(word, '^[^.''’-]{1,2}(?:[.''’-]|$)')
                and not regexp_matches(word, '^.[.&-]|[.0-9]')
                then '#'
            when contains(' {{ greetings() }} ', ' ' || word || ' ') then '#'
            when regexp_replace(
                lower(regexp_replace(word, '[''’].*$', '')), '^(?:{{ words_that_are_no_concepts() }})$', ''
            ) = '' then '#'
            else '=' || regexp_replace(word, '[''’]s?$', '')
        end
    )
{%- endset -%}
{%- set run -%}(?:\. )?(?:\+[^ ]+ )*=[^ ]+(?: (?:~[^ ]+ ){0,2}(?:\+[^ ]+ )*=[^ ]+)*{%- endset -%}
{%- set german -%}\b(?:der|das|und|ist|nicht|ich|ein|eine|einen|mit|dem|den|wir|auch|auf|sich|zu)\b{%- endset -%}
{%- set english -%}\b(?:the|and|is|of|to|a|it|my|you|we|at|for|on|with|that|was)\b{%- endset -%}
    list_transform([{{ text }}], lambda text:
        list_transform([{{ marked }}], lambda words:
            list_transform(
                [{
                    'runs': list_transform(
                        regexp_extract_all('. ' || array_to_string(words, ' '), '{{ run }}'),
                        lambda run: {
                            'is_first': starts_with(run, '. '),
                            'name': regexp_replace(run, '^\. |[=+~]', '', 'g')
                        }
                    )[:100],
                    'is_heading': len(list_filter(words, lambda word: word not in (',', '.'))) > 5
                    and 3 * len(list_filter(words, lambda word: word[1] in ('#', '=', '+')))
                    > 2 * len(list_filter(words, lambda word: word not in (',', '.'))),
                    'is_german': regexp_matches(lower(text), '{{ german }}')
                    and len(regexp_extract_all(lower(text), '{{ german }}'))
                    > len(regexp_extract_all(lower(text), '{{ english }}'))
                }],
                lambda found: list_transform(
                    [flatten(list_transform(
                        list_filter(found.runs, lambda run: not run.is_first),
                        lambda run: string_split(run.name, ' ')
                    ))],
                    lambda said_elsewhere: list_transform(
                        [list_transform(
                            list_filter(
                                found.runs,
                                lambda run: not found.is_heading and case
                                    when found.is_german then contains(run.name, ' ') and not run.is_first
                                    when run.is_first and not contains(run.name, ' ')
                                        then list_contains(said_elsewhere, run.name)
                                    else true
                                end
                            ),
                            lambda run: left(run.name, 200)
                        )],
                        lambda names: list_filter(
                            names, lambda name, place: list_position(names, name) = place
                        )[:20]
                    )[1]
                )[1]
            )[1]
        )[1]
    )[1]
{%- endmacro %}


{#- Expression, the same as structs of name and kind, which is null. -#}
{% macro lexical_entities(column) %}{{ return(adapter.dispatch('lexical_entities', 'mnemoduck')(column)) }}{% endmacro %}

{% macro duckdb__lexical_entities(column) -%}
    list_transform({{ entity_names(column) }}, lambda name: {'name': name, 'kind': cast(null as varchar)})
{%- endmacro %}
