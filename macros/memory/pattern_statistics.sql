{#- What is believed of a pattern: how surely it goes with success, and whether that could be chance. -#}


{#- One step of Newton's method towards the logit of the lower 2.5 % quantile of Beta(a, b), on the logarithm of its
    distribution function. That function is concave, so steps go towards the quantile from wherever they start.

    F(t) is the integral of the density of the logit, exp(a t - (a + b) ln(1 + e^t)) / B(a, b), up to t: twelve nodes
    of the rule for half lines of Takahasi & Mori (1974), in units in which the density falls. With three steps from
    the start the quantile is right to 0.0001 for a and b from 0.5 to 2000 (tests compare it with numeric integration).
    `t`, `a`, `b`: columns; `density`: the logarithm of the density at t but for B; `scale`: in how far it falls by
    a factor of e. -#}
{% macro beta_quantile_step(t, a, b, density, scale) -%}
{%- set mass -%}
    ({{ scale }} * (
        {%- for node, weight in [
            ('0.000083634362', '0.000287023644'),
            ('0.001504765812', '0.003637010771'),
            ('0.011771018698', '0.020515103706'),
            ('0.052950813812', '0.068573665214'),
            ('0.164937713018', '0.164540056335'),
            ('0.402480556222', '0.321985676685'),
            ('0.835110719770', '0.558485143959'),
            ('1.555831700306', '0.904831756732'),
            ('2.698404066871', '1.413056189973'),
            ('4.462828508221', '2.165347920134'),
            ('7.151587405700', '3.287185768225'),
            ('11.222436140814', '4.967848552905'),
        ] %}
        {{ '+ ' if not loop.first }}{{ weight }}e0 * exp(
            {{ a }} * ({{ t }} - {{ node }}e0 * {{ scale }})
            - ({{ a }} + {{ b }}) * ln(1 + exp({{ t }} - {{ node }}e0 * {{ scale }})) - {{ density }}
        )
        {%- endfor %}
    ))
{%- endset -%}
    {{ t }} - (ln({{ mass }}) + {{ density }} - log_beta - ln(0.025)) * {{ mass }}
{%- endmacro %}


{% macro logit_beta_density(t, a, b) -%}
    {{ a }} * {{ t }} - ({{ a }} + {{ b }}) * ln(1 + exp({{ t }}))
{%- endmacro %}


{#- The slope of that is a - (a + b) x, its curvature -(a + b) x (1 - x), where x = 1 / (1 + e^-t). -#}
{% macro logit_beta_scale(t, a, b) -%}
    1 / sqrt(
        pow({{ a }} - ({{ a }} + {{ b }}) / (1 + exp(-{{ t }})), 2)
        + ({{ a }} + {{ b }}) / (1 + exp(-{{ t }})) / (1 + exp({{ t }}))
    )
{%- endmacro %}


{#- Where to start: the better of the two that are right for small and for large a. -#}
{% macro beta_quantile_start(a, b, log_beta) -%}
    greatest(
        (ln(0.025) + ln({{ a }}) + {{ log_beta }}) / {{ a }},
        ln({{ a }} / {{ b }}) - 1.959963984540054e0 * sqrt(1 / {{ a }} + 1 / {{ b }})
    )
{%- endmacro %}


{#- The 95 % interval of Beta(successes, failures), both at least 0.5: the rows of a relation with confidence_low and
    confidence_high beside what they have. `successes`, `failures`: columns. -#}
{% macro with_beta_interval(relation, successes, failures) -%}
select
    * exclude (log_beta, low, high),
    1 / (1 + exp(-low)) as confidence_low,
    1 / (1 + exp(high)) as confidence_high
from (
    {%- for step in range(3) %}
    select
        * exclude (low, high, low_density, low_scale, high_density, high_scale),
        {{ beta_quantile_step('low', successes, failures, 'low_density', 'low_scale') }} as low,
        {{ beta_quantile_step('high', failures, successes, 'high_density', 'high_scale') }} as high
    from (
        select
            *,
            {{ logit_beta_density('low', successes, failures) }} as low_density,
            {{ logit_beta_scale('low', successes, failures) }} as low_scale,
            {{ logit_beta_density('high', failures, successes) }} as high_density,
            {{ logit_beta_scale('high', failures, successes) }} as high_scale
        from (
    {%- endfor %}
    select
        *,
        {{ beta_quantile_start(successes, failures, 'log_beta') }} as low,
        {{ beta_quantile_start(failures, successes, 'log_beta') }} as high
    from (
        select
            *,
            lgamma({{ successes }}) + lgamma({{ failures }}) - lgamma({{ successes }} + {{ failures }}) as log_beta
        from {{ relation }} as observed
    ) as measured
    {%- for step in range(3) %}
        ) as placed
    ) as stepped
    {%- endfor %}
) as found
{%- endmacro %}


{#- The logarithm of the number of ways to choose some of many. -#}
{% macro log_choose(many, some) -%}
    (lgamma({{ many }} + 1) - lgamma({{ some }} + 1) - lgamma({{ many }} - {{ some }} + 1))
{%- endmacro %}


{% macro log_ways(hits, chosen, successes, total) -%}
    {{ log_choose(successes, hits) }}
    + {{ log_choose('(' ~ total ~ ' - ' ~ successes ~ ')', '(' ~ chosen ~ ' - ' ~ hits ~ ')') }}
{%- endmacro %}


{#- The two-sided p-value of Fisher's exact test (Fisher 1922): how probable a table as improbable as this one or more
    so is, if success has nothing to do with it. Of `total` episodes `successes` succeeded; of those, `chosen` have
    the pattern, and `hits` of these succeeded. A table counts as no more probable if it is within 1e-7 of it, as
    elsewhere. Where tables are many, only those within 12 standard deviations of the expected one are added up: what is
    left out is below 1e-30. -#}
{% macro fisher_p_value(hits, chosen, successes, total) -%}
{%- set expected = '(' ~ chosen ~ ' * (' ~ successes ~ ' / ' ~ total ~ '))' -%}
{%- set reach -%}
    (12 * sqrt({{ expected }} * (1 - {{ successes }} / {{ total }}) * (1 - {{ chosen }} / {{ total }})) + 12)
{%- endset -%}
    least(1, list_sum(list_transform(
        list_transform(
            list_distinct(list_concat([{{ hits }}], range(
                cast(greatest(0, {{ chosen }} + {{ successes }} - {{ total }}, floor({{ expected }} - {{ reach }})) as bigint),
                cast(least({{ chosen }}, {{ successes }}, ceil({{ expected }} + {{ reach }})) as bigint) + 1
            ))),
            lambda others: {{ log_ways('others', chosen, successes, total) }}
        ),
        lambda ways: case
            when ways <= {{ log_ways(hits, chosen, successes, total) }} + 1e-7
                then exp(ways - {{ log_choose(total, chosen) }})
            else 0
        end
    )))
{%- endmacro %}


{#- The share of false discoveries among what is called telling, if all that have a p-value as small as this are
    (Benjamini & Hochberg 1995): p * number of tests / rank, and no more than that of a larger one. -#}
{% macro benjamini_hochberg(relation, p_value, family) -%}
select
    * exclude (raw_q_value),
    least(1, min(raw_q_value) over (partition by {{ family }} order by {{ p_value }} desc nulls first)) as q_value
from (
    select
        *,
        {{ p_value }} * count({{ p_value }}) over (partition by {{ family }})
            / count({{ p_value }}) over (partition by {{ family }} order by {{ p_value }} asc nulls last) as raw_q_value
    from {{ relation }} as tested
) as ranked
{%- endmacro %}
