{#- R = exp(-t / S): the share that is retained t after the last use, S being the stability.
    Source: Ebbinghaus (1885); two components of memory (retrievability, stability) after
    Wozniak, Gorzelanczyk & Murakowski (1995). -#}
{% macro retention(last_used_at, stability_days, as_of) -%}
    exp(-greatest(0, {{ seconds_between(last_used_at, as_of) }}) / (86400 * {{ stability_days }}))
{%- endmacro %}


{#- S grows by a constant factor with each reinforcement that comes after a pause (the spacing effect);
    uses in quick succession leave it as it is. -#}
{% macro stability_days(spaced_reinforcements) -%}
    ({{ parameter('initial_stability_days') }} * pow({{ parameter('stability_growth') }}, {{ spaced_reinforcements }}))
{%- endmacro %}
