{#- The consolidation cycle in which a moment lies, counted from 1970. -#}
{% macro consolidation_cycle(moment) -%}
    cast(floor({{ seconds_between("timestamp '1970-01-01'", moment) }} / {{ parameter('consolidation_cycle_hours') * 3600 }}) as integer)
{%- endmacro %}


{#- The Hebbian potential of an association as its logarithm, brought back to cycle 0 (forward decay: Cormode et al.
    2009), so that time need not rewrite it: each co-activation adds 1 (Hebb 1949, a_i * a_j with both 1), and is worth
    association_decay less with each cycle that has passed since. Null if none counts.

    `coactivations` is a list of structs (together_at, ended_at), in order. Without a moment, those count that have not
    ended; else those that had begun and not ended at the moment. -#}
{% macro log_potential(coactivations, moment=none) -%}
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
    list_max(list_transform(
        {{ coactivations }}, lambda one: greatest(one.together_at, coalesce(one.ended_at, one.together_at))
    ))
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


{#- The logarithm of the norm of potentials, an aggregate, in an order of its own: sums of doubles depend on it. -#}
{% macro log_norm(logarithm, order) -%}
    list_transform(
        [list({{ logarithm }} order by {{ order }})],
        lambda all_of_them: list_max(all_of_them) + 0.5 * ln(list_sum(list_transform(
            all_of_them, lambda one: exp(2 * (one - list_max(all_of_them)))
        )))
    )[1]
{%- endmacro %}


{#- The co-activations of concepts of one memory, both ways: a query with source_id, target_id, together_at, ended_at.

    Arguments: `mentions`, a relation with the rows of memory_concepts that count and `forgotten_at`. Only the first
    association_concepts of a memory are bound; none to a concept that contains it in words, and not the words of one
    phrase to each other: ice and cream are not associated, ice cream is what was meant. -#}
{% macro memory_coactivations(mentions) -%}
    select
        one.concept_id as source_id,
        other.concept_id as target_id,
        one.occurred_at as together_at,
        one.forgotten_at as ended_at

    from (
        select
            *,
            coalesce(
                string_agg(concept, '|') filter (where contains(concept, ' ')) over (partition by memory_id), ''
            ) as phrases

        from {{ mentions }}
    ) as one
    inner join {{ mentions }} as other on one.memory_id = other.memory_id
    where
        one.concept_id <> other.concept_id
        and one.rank_in_memory <= {{ parameter('association_concepts') }}
        and other.rank_in_memory <= {{ parameter('association_concepts') }}
        and not contains(' ' || one.concept || ' ', ' ' || other.concept || ' ')
        and not contains(' ' || other.concept || ' ', ' ' || one.concept || ' ')
        and not contains(one.phrases, one.concept || ' ' || other.concept)
        and not contains(one.phrases, other.concept || ' ' || one.concept)
{%- endmacro %}


{#- The co-activations of concepts of memories that were recalled together, both ways: each two of them bind their first
    recall_concepts to each other. What two memories add does not depend on the others, so a memory may arrive after its
    recall.

    Arguments: `mentions`, as above with event_id, recalled_at and loaded_in (the batch by which event and memory were both
    known); `since`, an expression: only what was not complete in that batch. -#}
{% macro recall_coactivations(mentions, since=none) -%}
    select
        one.concept_id as source_id,
        other.concept_id as target_id,
        one.recalled_at as together_at,
        least(
            coalesce(one.forgotten_at, other.forgotten_at), coalesce(other.forgotten_at, one.forgotten_at)
        ) as ended_at

    from {{ mentions }} as one
    inner join {{ mentions }} as other on one.event_id = other.event_id
    where
        one.memory_id <> other.memory_id
        and one.concept_id <> other.concept_id
        and one.concept_id >> 43 = other.concept_id >> 43
        and not contains(' ' || one.concept || ' ', ' ' || other.concept || ' ')
        and not contains(' ' || other.concept || ' ', ' ' || one.concept || ' ')
        {% if since is not none -%}
        and greatest(one.loaded_in, other.loaded_in) > {{ since }}
        {%- endif %}
{%- endmacro %}


{#- The concepts that words mean, in the scope that a table macro is asked for: any of their forms, in any case. -#}
{% macro meant_concepts(words, concepts) -%}
    select concept_id
    from {{ concepts }}
    where
        -- One word is looked up in a third of the time of several.
        (
            list_contains(forms, lower(trim({{ words }}[1])))
            or (len({{ words }}) > 1 and list_has_any(forms, list_transform({{ words }}, lambda word: lower(trim(word)))))
        )
        and (for_user is null or user_id = for_user)
        and (for_agent is null or agent_id = for_agent)
{%- endmacro %}


{#- How a concept is shown: its shortest form (the first five characters of `shortest` are for its order). -#}
{% macro shown_concept(shortest) %}{{ return('substr(' ~ shortest ~ ', 6)') }}{% endmacro %}


{#- The associations out of what `front` (a recursive relation with concept_id) holds, with their weights at a cycle. Without a
    moment as the last build has them, which reads the stored potentials and norms and no more; at a moment exactly, from
    the co-activations until then where the stored potential is newer. -#}
{% macro weighted_associations(front, concepts, edges, cycle, moment=none) -%}
{% if moment is none -%}
    select
        {{ front }}.*,
        edge.source_id,
        edge.target_id,
        source.shortest as source_form,
        {{ association_weight(
            potential_at('edge.log_potential', cycle), potential_at('source.log_norm', cycle)
        ) }} as weight

    from {{ front }}
    -- Edges are joined to the front first, which filters their scan; `| 0` keeps the planner from turning it.
    inner join {{ edges }} as edge on {{ front }}.concept_id = edge.source_id
    inner join {{ concepts }} as source on (edge.source_id | 0) = source.concept_id
    where edge.log_potential is not null
{%- else -%}
    select
        * exclude (potential),
        {{ association_weight('potential', 'sqrt(sum(potential * potential) over out_of_the_concept)') }} as weight

    from (
        select
            {{ front }}.*,
            edge.source_id,
            edge.target_id,
            source.shortest as source_form,
            {{ potential_at(
                'case when edge.settled_at <= ' ~ moment ~ ' then edge.log_potential else '
                ~ log_potential('edge.coactivations', moment) ~ ' end',
                cycle
            ) }} as potential

        from {{ front }}
        inner join {{ concepts }} as source on {{ front }}.concept_id = source.concept_id
        inner join {{ edges }} as edge on {{ front }}.concept_id = edge.source_id
    )
    where potential is not null
    window out_of_the_concept as (
        partition by source_id order by target_id, hop
        rows between unbounded preceding and unbounded following
    )
{%- endif %}
{%- endmacro %}


{#- Of equal values one must be chosen, the same each time: a part in 10^12 decides. A tuple would do it, three times as
    slowly. -#}
{% macro with_tie_break(value, id) -%}
    {{ value }} * (1 + 1e-15 * ({{ id }} % 1000))
{%- endmacro %}


{#- Spreading activation (Collins & Loftus 1975): the body of the table macros. What is asked for has the activation 1. In
    each hop the spreading_width most active of the hop before pass it on, times the weight of the association and
    spreading_decay; so the activation of a concept is the sum over all walks of at most `depth` hops (at most 3).

    Arguments: `concepts`, int_concepts; `edges`, int_associations; `now`, the moment of the last build's state; `moment`, one
    of the past or none. The table macro has the parameters concepts, for_user, for_agent, depth and most. -#}
{% macro spreading_activation(concepts, edges, now, moment=none) -%}
{%- set cycle = consolidation_cycle(now if moment is none else moment) -%}
with recursive

spread as (

    select
        concept_id,
        0 as hop,
        cast(1 as double) as activation,
        cast(null as varchar) as via

    from ({{ meant_concepts('concepts', concepts) }})

    union all

    (
        select
            target_id as concept_id,
            hop + 1 as hop,
            fsum(activation * weight * {{ parameter('spreading_decay') }}) as activation,
            arg_max(source_form, {{ with_tie_break('activation * weight', 'source_id') }}) as via

        from (
            {{ weighted_associations('spread', concepts, edges, cycle, moment) }}
        )
        where hop < least(depth, 3)
        group by target_id, hop
        order by 3 desc, 1
        limit {{ parameter('spreading_width') | int }}
    )

),

reached as (

    select
        concept_id,
        fsum(activation) as activation,
        min(hop) as hop,
        arg_min(via, hop) as via

    from spread
    group by concept_id
    having min(hop) > 0
    order by 2 desc, 1
    limit most

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
order by reached.activation desc, reached.concept_id
{%- endmacro %}


{#- The shortest path between two concepts (breadth first): of the paths with the fewest hops the strongest, which is the one
    with the largest product of weights. The table macro has the parameters from_concept, to_concept, for_user, for_agent and
    most_hops (at most 5). -#}
{% macro shortest_association_paths(concepts, edges, now, moment=none) -%}
{%- set cycle = consolidation_cycle(now if moment is none else moment) -%}
with recursive

goals as (

    {{ meant_concepts('[to_concept]', concepts) }}

),

search (concept_id, hop, strength, path, weights) using key (concept_id) as (

    select
        concept_id,
        0 as hop,
        cast(1 as double) as strength,
        [concept_id] as path,
        cast([] as double[]) as weights

    from ({{ meant_concepts('[from_concept]', concepts) }})

    union all

    (
        select
            target_id as concept_id,
            any_value(hop) + 1 as hop,
            max(strength * weight) as strength,
            arg_max(list_append(path, target_id), {{ with_tie_break('strength * weight', 'source_id') }}) as path,
            arg_max(list_append(weights, weight), {{ with_tie_break('strength * weight', 'source_id') }}) as weights

        from (
            {{ weighted_associations('search', concepts, edges, cycle, moment) }}
        )
        where
            hop < least(most_hops, 5)
            and target_id not in (select known.concept_id from recurring.search as known)
            and not exists (
                select 1 from recurring.search as known
                where known.concept_id in (select goals.concept_id from goals)
            )
        group by target_id
    )

),

found as (

    select *
    from search
    where concept_id in (select goals.concept_id from goals)

)

select
    list({{ shown_concept('named.shortest') }} order by step.place) as path,
    any_value(step.weights) as weights,
    any_value(step.hop) as hops,
    any_value(step.strength) as strength,
    any_value(named.user_id) as user_id,
    any_value(named.agent_id) as agent_id

from (
    select
        concept_id as goal_id,
        hop,
        strength,
        weights,
        unnest(path) as concept_id,
        generate_subscripts(path, 1) as place

    from found
) as step
inner join {{ concepts }} as named on step.concept_id = named.concept_id
group by step.goal_id
order by hops, strength desc, step.goal_id
{%- endmacro %}
