{#- Prompts as SQL: what a model reads of a memory or an episode, and the key under which its answer is kept.

    An input depends on nothing but the role and the content of a memory, and on what was done in an episode, so that
    equal texts are one question and cost one call, whoever said them and whenever. -#}


{#- A 128-bit hash of texts, each tagged with its length or with null: mnemoduck.llm.keys.prompt_hash in SQL. -#}
{% macro prompt_hash(columns) %}{{ return(adapter.dispatch('prompt_hash', 'mnemoduck')(columns)) }}{% endmacro %}

{% macro duckdb__prompt_hash(columns) -%}
    cast(left(sha256(
        {%- for column in columns %}
        coalesce(length(cast({{ column }} as varchar)) || ':' || cast({{ column }} as varchar), '-')
        {{- ' ||' if not loop.last }}
        {%- endfor %}
    ), 32) as uuid)
{%- endmacro %}


{#- The key of an input that is asked with certain settings: mnemoduck.llm.keys.prompt_key in SQL. -#}
{% macro prompt_key(settings_hash, input_hash) -%}
    {{ prompt_hash(["'sha256-1'", settings_hash, input_hash]) }}
{%- endmacro %}


{#- The content of a memory as a model reads it: Unicode NFC, blanks for control characters, one blank for a run
    of them, one empty line for several, and at most so many characters. -#}
{% macro prompt_text(content, characters) %}
    {{- return(adapter.dispatch('prompt_text', 'mnemoduck')(content, characters)) -}}
{% endmacro %}

{#- Most texts are so already but for NFC, and one regular expression tells which, in a tenth of the time. NFC makes
    no blanks and no control characters but of others, and leaves none out. -#}
{% macro duckdb__prompt_text(content, characters) -%}
    {%- set normalised = composed_text(content, "' '") -%}
    {%- set text = namespace(sql=normalised) -%}
    {%- for pattern, replacement in [
        ('\\r\\n?|\\x{2028}|\\x{2029}|\\x{85}', 'chr(10)'),
        ('[\\x01-\\x09\\x0b-\\x1f\\x7f\\p{Zs}]+', "' '"),
        (' ?\\n ?', 'chr(10)'),
        ('\\n{3,}', 'chr(10) || chr(10)'),
    ] -%}
        {%- set text.sql = 'regexp_replace(' ~ text.sql ~ ", '" ~ pattern ~ "', " ~ replacement ~ ", 'g')" -%}
    {%- endfor -%}
    left(
        case
            when regexp_matches({{ content }}, '[\x00-\x1f\x7f\x{85}\x{2028}\x{2029}]|[^\P{Zs} ]|  |^ | $')
                then trim({{ text.sql }}, ' ' || chr(10))
            else {{ composed_text(content, "' '") }}
        end,
        {{ characters }}
    )
{%- endmacro %}


{#- What a model is shown of a memory: a text as prompt_text gives it, between two tags that it cannot close itself,
    because they carry 64 bits of its own hash. -#}
{% macro fenced_text(text, role) %}
    {{- return(adapter.dispatch('fenced_text', 'mnemoduck')(text, role)) -}}
{% endmacro %}

{% macro duckdb__fenced_text(text, role) -%}
    list_transform(
        [struct_pack(text := {{ text }}, mark := left(sha256({{ text }}), 16))],
        lambda memory: '<memory-' || memory.mark || ' said-by="'
        || coalesce(nullif(left(regexp_replace(lower({{ role }}), '[^a-z0-9 _-]', '', 'g'), 40), ''), 'unknown')
        || '">' || chr(10) || memory.text || chr(10) || '</memory-' || memory.mark || '>'
    )[1]
{%- endmacro %}


{#- What a model is shown of an episode: a text as episode_texts gives it, between tags as of a memory. -#}
{% macro fenced_episode(text) %}{{ return(adapter.dispatch('fenced_episode', 'mnemoduck')(text)) }}{% endmacro %}

{% macro duckdb__fenced_episode(text) -%}
    list_transform(
        [struct_pack(text := {{ text }}, mark := left(sha256({{ text }}), 16))],
        lambda episode: '<episode-' || episode.mark || '>' || chr(10) || episode.text || chr(10)
        || '</episode-' || episode.mark || '>'
    )[1]
{%- endmacro %}


{#- The beginning of a text in one line, so that what is told in a line of a prompt cannot look like another one. -#}
{% macro prompt_line(text, characters) %}
    {{- return(adapter.dispatch('prompt_line', 'mnemoduck')(text, characters)) -}}
{% endmacro %}

{% macro duckdb__prompt_line(text, characters) -%}
    trim(regexp_replace(left({{ text }}, {{ characters }}), '[\s\x0b\x{85}\x{2028}\x{2029}]+', ' ', 'g'))
{%- endmacro %}


{#- A query, what a model reads of episodes: `episode_key` and `shown`, a line for each thing that is told. No ids of ours
    and no times, so that episodes that went alike are one question. Each part is bounded on its own; of many calls the
    first and the last are shown. Of what was ordered forgotten there is no row.
    `episodes`: the relation that names those it is about. -#}
{% macro episode_texts(episodes, features, reflections, steps, observations, characters) %}
    {{- return(adapter.dispatch('episode_texts', 'mnemoduck')(
        episodes, features, reflections, steps, observations, characters
    )) -}}
{% endmacro %}

{% macro duckdb__episode_texts(episodes, features, reflections, steps, observations, characters) -%}
    {%- set half = characters // 4 -%}
    {%- set told = [
        "'Task: ' || " ~ prompt_line('told.task', characters // 8),
        "'Domain: ' || nullif(" ~ prompt_line('told.domain', 100) ~ ", '')",
        "'Outcome: ' || told.outcome",
        "'Notes: ' || " ~ prompt_line('reflected.reflection', characters // 4),
        "'Calls:'",
        "case when length(called.lines) > " ~ 2 * half ~ " then left(called.lines, " ~ half ~ ") || ' …' || chr(10) || '… '"
        ~ " || right(called.lines, " ~ half ~ ") else coalesce(called.lines, 'none') end",
    ] -%}
    select
        told.episode_key,
        {{ prompt_text('concat_ws(chr(10), ' ~ told | join(', ') ~ ')', characters) }} as shown

    from {{ features }} as told
    inner join {{ reflections }} as reflected on told.episode_key = reflected.episode_key
    left join (
        select
            placed.episode_key,
            string_agg(placed.place || '. ' || placed.line, chr(10) order by placed.place) as lines

        from (
            select
                step.episode_key,
                row_number() over (
                    partition by step.episode_key
                    order by step.step, step.occurred_at, step.event_id
                ) as place,
                {{ prompt_line('step.tool', 100) }}
                || case when step.args <> '{}' then ' ' || {{ prompt_line('step.args', 200) }} else '' end
                || case
                    when step.is_error
                        then ' failed: '
                        || {{ prompt_line("coalesce(step.error, observed.observation, 'no reason was given')", 200) }}
                    else ''
                end as line

            from {{ steps }} as step
            left join {{ observations }} as observed
                on
                    step.observation_key = observed.observation_key
                    and step.is_error
                    and step.error is null
            where
                step.step_type = 'tool'
                and step.episode_key in (select named.episode_key from {{ episodes }} as named)
        ) as placed
        group by placed.episode_key
    ) as called on told.episode_key = called.episode_key
    where told.episode_key in (select named.episode_key from {{ episodes }} as named)
{%- endmacro %}


{#- A query for how far the prompts of each template that is asked have got: template, and the batch_seq up to which its
    prompts are in `known`, 0 of one that is asked otherwise than before. -#}
{% macro rendered_templates(known, templates) -%}
    select
        templates.template,
        coalesce(max(known.batch_seq), 0) as batch_seq

    from {{ templates }} as templates
    left join {{ known }} as known
        on templates.template = known.template and templates.settings_hash = known.settings_hash
    where templates.mode <> 'off'
    group by templates.template
{%- endmacro %}


{#- A query for the memories of which not all prompts are known. -#}
{% macro unrendered_memories(memories, known, templates) -%}
    select memory_id from {{ memories }}
    where
        batch_seq > (
            select min(batch_seq) from ({{ rendered_templates(known, templates) }}) as rendered
            where template <> 'reflection'
        )
{%- endmacro %}
