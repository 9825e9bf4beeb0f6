{#- The consolidation cycle in which a moment lies, counted from 1970. -#}
{% macro consolidation_cycle(moment) -%}
    cast(floor({{ microseconds_since_1970(moment) }} / {{ parameter('consolidation_cycle_hours') * 3600e6 }}) as integer)
{%- endmacro %}


{#- The Hebbian potential of an association as its logarithm, brought back to cycle 0 (forward decay: Cormode et al.
    2009), so that time need not rewrite it: each co-activation adds 1 (Hebb 1949, a_i * a_j with both 1), and is worth
    association_decay less with each cycle that has passed since. Null if none counts.

    `coactivations` is a list of structs (together_at, ended_at), in order. Without a moment, those count that have not
    ended; else those that had begun and not ended at the moment. Most lists have one element, which needs no sum. -#}
{% macro log_potential(coactivations, moment=none) -%}
    {%- if moment is none -%}
    case
        when len({{ coactivations }}) = 1
            then {{ lone_log_potential(coactivations ~ '[1].together_at', coactivations ~ '[1].ended_at') }}
        else {{ summed_log_potential(coactivations) }} end
    {%- else -%}
    {{ summed_log_potential(coactivations, moment) }}
    {%- endif -%}
{%- endmacro %}

{#- The same of a pair that was active together once. -#}
{% macro lone_log_potential(together_at, ended_at) -%}
    case
        when {{ ended_at }} is null
            then 0 - {{ consolidation_cycle(together_at) }} * ln({{ parameter('association_decay') }})
    end
{%- endmacro %}

{% macro summed_log_potential(coactivations, moment=none) -%}
    list_transform(
        [list_transform(
            list_filter({{ coactivations }}, lambda one:
                {% if moment is none -%}
                one.ended_at is null
                {%- else -%}
                one.together_at <= {{ moment }} and (one.ended_at is null or one.ended_at > {{ moment }})
                {%- endif %}),
            lambda one: {{ consolidation_cycle('one.together_at') }}
        )],
        lambda cycles: ln(list_sum(list_transform(
            cycles, lambda one: power({{ parameter('association_decay') }}, list_max(cycles) - one)
        ))) - list_max(cycles) * ln({{ parameter('association_decay') }})
    )[1]
{%- endmacro %}


{#- The last moment at which what the co-activations add up to changes. -#}
{% macro last_change(coactivations) -%}
    case
        when len({{ coactivations }}) = 1
            then greatest({{ coactivations }}[1].together_at, coalesce({{ coactivations }}[1].ended_at, {{ coactivations }}[1].together_at))
        else list_max(list_transform(
            {{ coactivations }}, lambda one: greatest(one.together_at, coalesce(one.ended_at, one.together_at))
        ))
    end
{%- endmacro %}


{#- How many co-activations count at a moment. -#}
{% macro coactivation_count(coactivations, moment) -%}
    len(list_filter(
        {{ coactivations }},
        lambda one: one.together_at <= {{ moment }} and (one.ended_at is null or one.ended_at > {{ moment }})
    ))
{%- endmacro %}


{#- A stored logarithm as the value at a cycle, times the learning rate. -#}
{% macro potential_at(logarithm, cycle) -%}
    {{ parameter('association_learning_rate') }} * exp({{ logarithm }} + {{ cycle }} * ln({{ parameter('association_decay') }}))
{%- endmacro %}


{#- The weight of an association after Oja (1982), to whose rule this is the first order: the potential over the norm of
    all potentials out of the concept, where that is above 1. So the squares of the weights out of a concept add up to at
    most 1, however much happens (synaptic homeostasis). -#}
{% macro association_weight(potential, norm) -%}
    ({{ potential }}) / greatest(1, {{ norm }})
{%- endmacro %}


{#- How much a concept tells among those of its user and agent (Sparck Jones 1972); both are rows of int_concepts. -#}
{% macro inverse_document_frequency(concept, total) -%}
    ln(({{ total }}.memory_count + 1) / ({{ concept }}.memory_count + 1)) + 1
{%- endmacro %}


{#- The co-activations of concepts of one memory, each pair once, the lower concept first: a query with source_id,
    target_id, together_at, ended_at.

    `mentions` are bindable_mentions. None is bound to a concept that contains it in words, and the words of one phrase are
    not to each other: ice and cream are not associated, ice cream is what was meant. Texts are searched only where that
    can find something: in phrases, and for what a phrase of the memory begins and ends with. -#}
{% macro memory_coactivations(mentions) -%}
    select
        one.concept_id as source_id,
        other.concept_id as target_id,
        one.occurred_at as together_at,
        one.forgotten_at as ended_at

    from {{ mentions }} as one
    inner join {{ mentions }} as other on one.memory_id = other.memory_id and one.concept_id < other.concept_id
    where
        (not one.is_phrase or not contains(one.padded, other.padded))
        and (not other.is_phrase or not contains(other.padded, one.padded))
        and (not one.opens_phrase or not other.ends_phrase or not contains(one.phrases, one.concept || ' ' || other.concept))
        and (not other.opens_phrase or not one.ends_phrase or not contains(one.phrases, other.concept || ' ' || one.concept))
{%- endmacro %}


{#- A query for the first association_concepts of each memory, with what its phrases have of them: the columns of `mentions`
    (the rows of memory_concepts that count, with `forgotten_at`), phrases, is_phrase, padded, opens_phrase, ends_phrase. -#}
{% macro bindable_mentions(mentions) -%}
    select
        *,
        contains(concept, ' ') as is_phrase,
        ' ' || concept || ' ' as padded,
        contains(phrases, concept || ' ') as opens_phrase,
        contains(phrases, ' ' || concept) as ends_phrase

    from (
        select
            mentioned.*,
            coalesce(phrased.phrases, '') as phrases

        from {{ mentions }} as mentioned
        left join (
            select
                memory_id,
                string_agg(concept, '|') as phrases

            from {{ mentions }}
            where contains(concept, ' ')
            group by memory_id
        ) as phrased on mentioned.memory_id = phrased.memory_id
        where mentioned.rank_in_memory <= {{ parameter('association_concepts') }}
    ) as with_phrases
{%- endmacro %}


{#- A query for the recalls, whole, in which any of some memories was. -#}
{% macro recalls_with_any(recalls, memories) -%}
    select * from {{ recalls }}
    where
        event_id in (
            select naming.event_id from {{ recalls }} as naming
            where naming.memory_id in (select memory_id from {{ memories }})
        )
{%- endmacro %}


{#- A query for the concepts of memories that were recalled, the first recall_concepts of each: the columns of `mentions`,
    event_id, recalled_at and loaded_in, the batch by which event and memory were both known. -#}
{% macro mentions_of_recalls(recalls, mentions) -%}
    select
        mentioned.*,
        recalled.event_id,
        recalled.occurred_at as recalled_at,
        greatest(recalled.batch_seq, mentioned.batch_seq) as loaded_in

    from {{ recalls }} as recalled
    inner join {{ mentions }} as mentioned on recalled.memory_id = mentioned.memory_id
    where mentioned.rank_in_memory <= {{ parameter('recall_concepts') }}
{%- endmacro %}


{#- The co-activations of concepts of memories that were recalled together, each pair once, the lower concept first: each
    two memories bind their first recall_concepts to each other. What two memories add does not depend on the others, so
    a memory may arrive after its recall.

    Arguments: `mentions`, as mentions_of_recalls gives them; `since`, an expression: only what was not complete in that
    batch. -#}
{% macro recall_coactivations(mentions, since=none) -%}
    select
        one.concept_id as source_id,
        other.concept_id as target_id,
        one.recalled_at as together_at,
        least(
            coalesce(one.forgotten_at, other.forgotten_at), coalesce(other.forgotten_at, one.forgotten_at)
        ) as ended_at

    from {{ mentions }} as one
    inner join {{ mentions }} as other on one.event_id = other.event_id and one.concept_id < other.concept_id
    where
        one.memory_id <> other.memory_id
        and one.concept_id >> 43 = other.concept_id >> 43
        -- The first 20 bits tell scopes apart only nearly.
        and one.user_id is not distinct from other.user_id
        and one.agent_id is not distinct from other.agent_id
        and not contains(' ' || one.concept || ' ', ' ' || other.concept || ' ')
        and not contains(' ' || other.concept || ' ', ' ' || one.concept || ' ')
        {% if since is not none -%}
        and greatest(one.loaded_in, other.loaded_in) > {{ since }}
        {%- endif %}
{%- endmacro %}


{#- A query for how the potentials out of each concept are spread, in steps of e: source_id, level (null where nothing
    counts), the `highest` of the level and its edge_count. A concept has some tens of levels, however many edges. -#}
{% macro association_levels(edges) -%}
    select
        source_id,
        cast(floor(log_potential) as integer) as level,
        max(log_potential) as highest,
        count(log_potential) as edge_count

    from {{ edges }}
    group by source_id, cast(floor(log_potential) as integer)
{%- endmacro %}


{#- A query for what goes out of each concept: source_id, the logarithm of the norm of its potentials, and its strongest
    associations (association_neighbours at most) as two lists that belong together. Which they are does not change with
    time, for that takes the same share of each.

    `edges` is a relation with source_id, target_id and log_potential, null where nothing counts (any more), and is read
    twice; `levels` are their association_levels. Only the levels that the strongest lie in are ranked: a hub has hundreds
    of thousands of associations. No list of all is made, and no heap, which has its full size for each concept from the
    first association on. The norm is summed in whole 10^-12 parts of the strongest, since sums of doubles depend on the
    order. -#}
{% macro outgoing_associations(edges, levels) -%}
{%- set most = parameter('association_neighbours') | int -%}
select
    normed.source_id,
    normed.log_norm,
    list_transform(
        list_sort(coalesce(nearest.edges, normed.edges, []), 'DESC'), lambda one: -one.minus_target_id
    ) as neighbour_ids,
    list_transform(
        list_sort(coalesce(nearest.edges, normed.edges, []), 'DESC'), lambda one: one.log_potential
    ) as neighbour_log_potentials

from (
    select
        edge.source_id,
        any_value(source.highest)
        + 0.5 * ln(sum(cast(round(1e12 * exp(2 * (edge.log_potential - source.highest))) as bigint)) / 1e12) as log_norm,
        list({{ ranked_edge('edge') }}) filter (
            source.edge_count <= {{ most }} and edge.log_potential is not null
        ) as edges

    from {{ edges }} as edge
    inner join ({{ highest_associations(levels) }}) as source on edge.source_id = source.source_id
    group by edge.source_id
) as normed
left join (
    select
        source_id,
        list({{ ranked_edge('strong') }}) as edges

    from (
        select
            edge.source_id,
            edge.target_id,
            edge.log_potential

        from {{ edges }} as edge
        inner join (
            select
                source_id,
                max(level) filter (reached >= {{ most }}) as lowest_level

            from (
                select
                    spread.source_id,
                    spread.level,
                    sum(spread.edge_count) over (
                        partition by spread.source_id order by spread.level desc
                    ) as reached

                from {{ levels }} as spread
                inner join ({{ highest_associations(levels) }}) as source on spread.source_id = source.source_id
                where source.edge_count > {{ most }} and spread.level is not null
            ) as cumulated
            group by source_id
        ) as kept on edge.source_id = kept.source_id
        where floor(edge.log_potential) >= kept.lowest_level
        qualify
            row_number() over (partition by edge.source_id order by edge.log_potential desc, edge.target_id) <= {{ most }}
    ) as strong
    group by source_id
) as nearest on normed.source_id = nearest.source_id
{%- endmacro %}

{% macro highest_associations(levels) -%}
    select
        source_id,
        max(highest) as highest,
        sum(edge_count) as edge_count

    from {{ levels }}
    group by source_id
{%- endmacro %}

{% macro ranked_edge(edge) -%}
    {'log_potential': {{ edge }}.log_potential, 'minus_target_id': -{{ edge }}.target_id}
{%- endmacro %}


{#- Whether a concept is meant by a word: by any of its forms, in any case. -#}
{% macro is_meant(word) %}{{ return('list_contains(forms, lower(trim(' ~ word ~ ')))') }}{% endmacro %}


{#- Whether a concept is meant by one of several words. A word at a time is looked up in a third of the time of a list, and
    what is asked for with one word should not pay for more: the planner drops the rest. -#}
{% macro is_meant_by_any(words) -%}
    (
        {{ is_meant(words ~ '[1]') }}
        or (
            len({{ words }}) > 1
            and (
                {{ is_meant(words ~ '[2]') }}
                or {{ is_meant(words ~ '[3]') }}
                or (len({{ words }}) > 3 and list_has_any(forms, list_transform({{ words }}, lambda word: lower(trim(word)))))
            )
        )
    )
{%- endmacro %}


{#- Whether a row is in the scope that a table macro is asked for. -#}
{% macro is_asked_for(of='') -%}
    (for_user is null or {{ of }}user_id = for_user) and (for_agent is null or {{ of }}agent_id = for_agent)
{%- endmacro %}


{#- How a concept is shown: its shortest form (the first five characters of `shortest` are for its order). -#}
{% macro shown_concept(shortest) %}{{ return('substr(' ~ shortest ~ ', 6)') }}{% endmacro %}


{#- What a stored logarithm has to be added to be a potential at a moment: the decay until then and the learning rate. -#}
{% macro log_decay(moment) -%}
    {{ consolidation_cycle(moment) }} * ln({{ parameter('association_decay') }}) + ln({{ parameter('association_learning_rate') }})
{%- endmacro %}


{#- The weights of the strongest associations out of a concept, one row for each: association_weight with both potential and
    norm as logarithms, exp(p + decay) / greatest(1, exp(norm + decay)) = exp(p + least(decay, -norm)). -#}
{% macro strongest_weights(concept, decay) -%}
    exp(unnest({{ concept }}.neighbour_log_potentials) + least({{ decay }}, -{{ concept }}.log_norm))
{%- endmacro %}


{#- The concepts of the scope that a table macro is asked for, with their norms and strongest associations as of a moment, from
    all co-activations until then: what int_concepts keeps for the end of the last build. -#}
{% macro concepts_at(concepts, edges, moment) -%}
    select
        concept.concept_id,
        concept.user_id,
        concept.agent_id,
        concept.shortest,
        concept.forms,
        settled.log_norm,
        settled.neighbour_ids,
        settled.neighbour_log_potentials

    from {{ concepts }} as concept
    left join (
        with edges_then as materialized (

            select
                source_id,
                target_id,
                case
                    when settled_at <= {{ moment }} then log_potential
                    else {{ log_potential('coactivations', moment) }}
                end as log_potential

            from {{ edges }}
            where
                source_id in (
                    select own.concept_id from {{ concepts }} as own
                    where {{ is_asked_for() }}
                )

        ),

        levels_then as materialized (

            {{ association_levels('edges_then') }}

        )

        {{ outgoing_associations('edges_then', 'levels_then') }}
    ) as settled on concept.concept_id = settled.source_id
{%- endmacro %}


{#- Of equal values one must be chosen, the same each time: a part in 10^12 decides. A tuple would do it, three times as
    slowly. -#}
{% macro with_tie_break(value, id) -%}
    {{ value }} * (1 + 1e-15 * ({{ id }} % 1000))
{%- endmacro %}


{#- What the concepts of `front` (concept_id, activation, decay) pass on: a query with one row for each association. -#}
{% macro passed_on(front, concepts, from_hop) -%}
    select
        source.concept_id as source_id,
        source.shortest as via,
        front.decay,
        unnest(source.neighbour_ids) as concept_id,
        front.activation * {{ parameter('spreading_decay') }} * {{ strongest_weights('source', 'front.decay') }} as activation

    from {{ front }} as front
    inner join {{ concepts }} as source on front.concept_id = source.concept_id
    where depth > {{ from_hop }} and {{ is_asked_for('source.') }}
{%- endmacro %}


{#- Spreading activation (Collins & Loftus 1975): the body of the table macros. What is asked for has the activation 1; a
    concept passes it on over its strongest associations, times their weights and spreading_decay, for at most three hops. What
    is reached over several walks adds up. The last hop starts from the spreading_width most active concepts of the one
    before.

    Nearly all of the time is planning and starting operators, so there are as few as possible: three hops written out,
    the first from the lists of the row that is found, no sum where the last one does it.

    Arguments: `concepts`, int_concepts; `edges`, int_associations; `now`, the moment of the last build's state; `moment`, one
    of the past or none. The table macro has the parameters concepts, for_user, for_agent, depth and most. -#}
{% macro spreading_activation(concepts, edges, now, moment=none) -%}
{%- set known = concepts if moment is none else 'known' -%}
with

{% if moment is not none -%}
known as materialized (

    {{ concepts_at(concepts, edges, moment) }}

),

{% endif -%}
meant as materialized (

    select
        concept_id,
        shortest,
        log_norm,
        neighbour_ids,
        neighbour_log_potentials,
        {{ log_decay(now if moment is none else moment) }} as decay

    from {{ known }}
    where
        {{ is_meant_by_any('concepts') }}
        and {{ is_asked_for() }}

),

hop_1 as materialized (

    select
        shortest as via,
        decay,
        unnest(neighbour_ids) as concept_id,
        {{ parameter('spreading_decay') }} * {{ strongest_weights('meant', 'decay') }} as activation

    from meant

),

hop_2 as materialized (

    select
        concept_id,
        any_value(decay) as decay,
        fsum(activation) as activation,
        arg_max(via, {{ with_tie_break('activation', 'source_id') }}) as via

    from ({{ passed_on('hop_1', known, 1) }})
    group by concept_id
    order by activation desc, concept_id
    limit {{ parameter('spreading_width') | int }}

),

reached as (

    select
        concept_id,
        fsum(activation) as activation,
        min(hop) as hop,
        arg_max(via, claim) as via

    from (
        -- What was asked for is no answer. The claim of a walk to say via what: of the fewest hops, then of the most activation.
        select concept_id, 0 as activation, 0 as hop, cast(null as varchar) as via, cast(null as double) as claim from meant
        union all
        select concept_id, activation, 1, via, 1e100 * activation from hop_1
        union all
        select concept_id, activation, 2, via, activation from hop_2
        union all
        select concept_id, activation, 3, via, 1e-100 * activation
        from ({{ passed_on('hop_2', known, 2) }})
    )
    group by concept_id

)

select
    {{ shown_concept('target.shortest') }} as concept,
    reached.activation,
    reached.hop,
    {{ shown_concept('reached.via') }} as via,
    target.user_id,
    target.agent_id

from reached
inner join {{ concepts }} as target on reached.concept_id = target.concept_id
where reached.hop > 0 and {{ is_asked_for('target.') }}
order by reached.activation desc, reached.concept_id
limit most
{%- endmacro %}


{#- Paths between two concepts by intersection search (Collins & Loftus 1975): activation spreads from both at once, at most
    two hops over their strongest associations, and where it meets is a path. Of the paths with the fewest hops the one with
    the largest product of weights, each in the direction in which it was found. The table macro has the parameters
    from_concept, to_concept, for_user, for_agent and most_hops (at most 4). -#}
{% macro shortest_association_paths(concepts, edges, now, moment=none) -%}
{%- set known = concepts if moment is none else 'known' -%}
with

{% if moment is not none -%}
known as materialized (

    {{ concepts_at(concepts, edges, moment) }}

),

{% endif -%}
meant as materialized (

    select
        {{ is_meant('from_concept') }} as is_start,
        {{ is_meant('to_concept') }} as is_goal,
        concept_id,
        shortest,
        log_norm,
        neighbour_ids,
        neighbour_log_potentials,
        {{ log_decay(now if moment is none else moment) }} as decay

    from {{ known }}
    where
        ({{ is_meant('from_concept') }} or {{ is_meant('to_concept') }})
        and {{ is_asked_for() }}

),

hop_1 as materialized (

    select
        is_start,
        is_goal,
        shortest as outer_form,
        decay,
        unnest(neighbour_ids) as concept_id,
        {{ strongest_weights('meant', 'decay') }} as outer_weight

    from meant

),

hop_2 as (

    select
        front.is_start,
        front.is_goal,
        front.outer_form,
        source.shortest as inner_form,
        front.outer_weight,
        unnest(source.neighbour_ids) as concept_id,
        {{ strongest_weights('source', 'front.decay') }} as inner_weight

    from hop_1 as front
    inner join {{ known }} as source on front.concept_id = source.concept_id
    where most_hops > 2 and {{ is_asked_for('source.') }}

),

reached as materialized (

    select
        is_start,
        is_goal,
        concept_id,
        0 as hops,
        cast(1 as double) as strength,
        cast(null as varchar) as outer_form,
        cast(null as varchar) as inner_form,
        cast(null as double) as outer_weight,
        cast(null as double) as inner_weight

    from meant

    union all

    select is_start, is_goal, concept_id, 1, outer_weight, outer_form, null, outer_weight, null from hop_1

    union all

    select is_start, is_goal, concept_id, 2, outer_weight * inner_weight, outer_form, inner_form, outer_weight, inner_weight from hop_2

),

-- One for each user and agent.
met as (

    select
        arg_min(
            struct_pack(
                concept_id := one.concept_id,
                hops := one.hops + other.hops,
                strength := one.strength * other.strength,
                first_form := one.outer_form,
                second_form := one.inner_form,
                last_form := other.outer_form,
                last_but_one := other.inner_form,
                weights := [one.outer_weight, one.inner_weight, other.inner_weight, other.outer_weight]
            ),
            struct_pack(
                hops := one.hops + other.hops,
                weakness := -(one.strength * other.strength),
                concept_id := one.concept_id,
                second_form := one.inner_form,
                last_but_one := other.inner_form
            )
        ) as best

    from reached as one
    inner join reached as other on one.concept_id = other.concept_id
    where
        one.is_start
        and other.is_goal
        and one.hops + other.hops <= most_hops
    group by one.concept_id >> 43

),

found as (

    select unnest(best) from met

)

select
    -- Unlike a list, a text is put together without what is null; a form has no such character.
    string_split(
        concat_ws(
            chr(31),
            {{ shown_concept('found.first_form') }},
            {{ shown_concept('found.second_form') }},
            {{ shown_concept('middle.shortest') }},
            {{ shown_concept('found.last_but_one') }},
            {{ shown_concept('found.last_form') }}
        ),
        chr(31)
    ) as path,
    list_filter(found.weights, lambda weight: weight is not null) as weights,
    found.hops,
    found.strength,
    middle.user_id,
    middle.agent_id

from found
inner join {{ concepts }} as middle on found.concept_id = middle.concept_id
where {{ is_asked_for('middle.') }}
{%- endmacro %}
