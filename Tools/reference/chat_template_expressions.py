"""Small templates that exercise one construct each, for chat_template_golden.py."""

EXPRESSIONS = [
    # Literals and printing
    (
        "{{ 1 }} {{ -2 }} {{ 1.0 }} {{ 1e20 }} {{ 0.1 + 0.2 }} {{ 1_000 }} {{ 0x1f }} {{ 1e-7"
        " }} {{ big }}"
    ),
    "{{ true }} {{ False }} {{ none }} {{ None }} {{ missing }}|",
    (
        "{{ 'a' 'b' \"c\" }} {{ 'it\\'s' }} {{ \"tab\\tnew\\nline\" }} {{ '\\x41\\u00e9\\"
        "U0001F600\\q' }}"
    ),
    "{{ [1, 'a', none, true, 1.5] }} {{ (1,) }} {{ (1, 2) }} {{ () }} {{ {'a': 1, 2: 'b'} }}",
    "{{ ['it\\'s', 'q\"', 'é', '\\n\\t\\\\', '\\x00\\x7f', '\\u200b', '\\'\"'] }}",
    "{{ mapping }} {{ people[0] }} {{ messages[0] }}",
    # Operators
    (
        "{{ 7 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 **"
        " 10 }} {{ 2 ** -1 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }}"
    ),
    "{{ 1 + 2 * 3 - 4 }} {{ (1 + 2) * 3 }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ 6 / 3 * 2 }}",
    (
        "{{ 'a' + 'b' }} {{ 'ab' * 3 }} {{ 3 * 'ab' }} {{ [1] + [2] }} {{ [0] * 3 }} {{ (1,) "
        "+ (2,) }} {{ true + true }}"
    ),
    "{{ 1 ~ 'a' ~ none ~ [1] ~ 2.0 ~ missing }}",
    (
        "{{ 1 < 2 }} {{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ 'é' =="
        " 'e\\u0301' }} {{ [1, 2] < [1, 3] }} {{ true == 1 }} {{ none == false }}"
    ),
    (
        "{{ 1 in [1, 2] }} {{ 3 not in [1, 2] }} {{ 'el' in 'hello' }} {{ '' in 'x' }} {{ 'b'"
        " in mapping }} {{ 'x' in missing }} {{ (1, 2) in [(1, 2)] }}"
    ),
    (
        "{{ not true }} {{ not missing }} {{ 1 and 2 }} {{ 0 or 'x' }} {{ '' and 1 }} {{ not "
        "1 == 2 }} {{ 1 if yes }} {{ 1 if not yes }}| {{ 'a' if zero else 'b' if zero else 'c"
        "' }}"
    ),
    (
        "{{ '%s and %d, %.2f%% %5s|%-5s|%05d %x %r' % ('a', 3, 2.5, 'r', 'l', 42, 255, 'q') }"
        "} {{ '%(k)s' % {'k': 1} }} {{ '%s' % 'one' }}"
    ),
    "{{ missing + 1 }}",
    "{{ 1 + 'a' }}",
    "{{ 'a' + 1 }}",
    "{{ none + 'a' }}",
    "{{ 1 / 0 }}",
    "{{ 1 % 0 }}",
    "{{ 1 < 'a' }}",
    "{{ 1 in 2 }}",
    "{{ -'a' }}",
    "{{ missing < 1 }}",
    "{{ none < 1 }}",
    "{{ 1 in 'abc' }}",
    # Access
    (
        "{{ people[0].name }} {{ people[0]['age'] }} {{ people[-1].name }} {{ people[9] }}| {"
        "{ people.0.name }} {{ mapping.zzz }}| {{ mapping['zzz'] }}|"
    ),
    (
        "{{ 'hello'[1] }} {{ 'hello'[-1] }} {{ 'hello'[1:3] }} {{ 'hello'[::-1] }} {{ 'hello'"
        "[:-1] }} {{ 'hello'[10:] }}| {{ 'hello'[-100:2] }} {{ 'hello'[4:1:-2] }} {{ 'héllo😀'"
        "[-2:] }}"
    ),
    (
        "{{ numbers[1:] }} {{ numbers[::2] }} {{ numbers[::-1] }} {{ numbers[:none] }} {{ (1,"
        "2,3)[1:] }} {{ numbers[5:2] }} {{ numbers[-2:] }} {{ [1,2,3,4,5][3:0:-1] }} {{ [1,2,"
        "3][-1:-9:-1] }}"
    ),
    "{{ missing.attribute }}",
    "{{ missing['x'] }}",
    "{{ nothing.x }}|",
    "{{ nothing['x'] }}|",
    "{{ missing() }}",
    "{{ 'a'() }}",
    "{{ 'hello'.nomethod() }}",
    "{{ numbers.append(4) }}",
    "{{ mapping.update({}) }}",
    "{{ mapping.pop('a') }}",
    "{{ numbers.append }}|{{ numbers.append is defined }}",
    "{{ 'x'.__class__ }}|",
    "{{ mapping.get('b') }} {{ mapping.get('q') }} {{ mapping.get('q', 7) }}",
    (
        "{% for k, v in mapping.items() %}{{ k }}={{ v }};{% endfor %} {% for k in mapping %}"
        "{{ k }}{% endfor %} {% for k in mapping.keys() %}{{ k }}{% endfor %} {% for v in map"
        "ping.values() %}{{ v }}{% endfor %}"
    ),
    "{{ numbers.index(2) }} {{ numbers.count(3) }} {{ numbers.copy() }} {{ (1,1).count(1) }}",
    "{{ numbers.index(9) }}",
    (
        "{{ {'items': 1}['items'] }} {{ {'x': 1}.x }} {{ {1: 'one', true: 'yes'}[1] }} {{ {'a"
        "': 1, 'a': 2} }} {{ {(1,2): 3}[(1,2)] }}"
    ),
    "{{ {[1]: 2} }}",
    # String methods
    (
        "{{ text.strip() }}|{{ text.lstrip() }}|{{ text.rstrip() }}|{{ 'xxaxx'.strip('x') }}|"
        "{{ 'abcab'.rstrip('ab') }}|{{ '\\x1f a \\u00a0'.strip() }}|"
    ),
    (
        "{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a,b,c'.split(',', 1) }} {{ 'a b"
        " c d'.split(none, 2) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ 'a b c'.rsplit(none, 1) }} {"
        "{ ''.split(',') }} {{ ''.split() }} {{ 'aXbXc'.split('X', maxsplit=1) }}"
    ),
    (
        "{{ 'hello'.startswith('he') }} {{ 'hello'.endswith('lo') }} {{ 'hello'.startswith(('"
        "x', 'h')) }} {{ 'hello'.startswith('l', 2) }} {{ 'x'.endswith('') }} {{ 'hello'.ends"
        "with('ell', 0, 4) }}"
    ),
    (
        "{{ 'aaa'.replace('a', 'b') }} {{ 'aaa'.replace('a', 'b', 2) }} {{ 'abc'.replace('', "
        "'-') }} {{ 'e\\u0301'.replace('e', 'x') }} {{ 'abc'.replace('x', 'y') }}"
    ),
    (
        "{{ 'hello wOrld'.upper() }} {{ 'HeLLo'.lower() }} {{ 'hello wOrld'.tit"
        "le() }} {{ \"they're bill's\".title() }} {{ 'hELLO wORLD'.capitalize() }"
        "} {{ 'aB'.swapcase() }} {{ 'straße'.upper() }} {{ 'ß'.casefold() }}"
    ),
    (
        "{{ ', '.join(['a', 'b']) }} {{ 'a-b'.partition('-') }} {{ 'a-b-c'.rpartition('-') }}"
        " {{ 'ab'.partition('-') }} {{ 'ab'.rpartition('-') }}"
    ),
    (
        "{{ 'hello'.find('l') }} {{ 'hello'.rfind('l') }} {{ 'hello'.find('z') }} {{ 'hello'."
        "index('e') }} {{ 'hello'.count('l') }} {{ 'aaaa'.count('aa') }} {{ 'é😀x'.find('x') }"
        "} {{ 'abc'.count('') }}"
    ),
    "{{ 'hello'.index('z') }}",
    "{{ 'a'.split('') }}",
    "{{ ','.join([1]) }}",
    (
        "{{ '12'.isdigit() }} {{ 'a1'.isalnum() }} {{ 'ab'.isalpha() }} {{ ' '.isspace() }} {"
        "{ 'ab'.islower() }} {{ 'AB1'.isupper() }} {{ ''.isdigit() }} {{ 'Ab Cd'.istitle() }}"
        " {{ '½'.isnumeric() }} {{ '²'.isdigit() }} {{ '²'.isdecimal() }} {{ 'é'.isascii() }}"
    ),
    (
        "{{ 'ab'.center(7, '*') }} {{ 'ab'.center(6) }}| {{ 'ab'.ljust(5, '.') }} {{ 'ab'.rju"
        "st(5) }} {{ '-42'.zfill(6) }} {{ '42'.zfill(5) }} {{ 'abc'.center(6, '*') }}"
    ),
    (
        "{{ 'a\\nb\\r\\nc\\n'.splitlines() }} {{ 'a\\nb'.splitlines(true) }} {{ 'Tes"
        "tHook'.removeprefix('Test') }} {{ 'file.txt'.removesuffix('.txt') }} {"
        "{ 'a\\tb'.expandtabs(4) }}"
    ),
    (
        "{{ '{} and {}'.format(1, 'b') }} {{ '{1}{0}'.format('a', 'b') }} {{ '{x!r:>5}|{y:.2f"
        "}|{z:05d}|{z:<4}|{z:+}|{w:,}'.format(x='q', y=2.345, z=42, w=1234567) }} {{ '{{}}'.f"
        "ormat() }}"
    ),
    # Filters
    (
        "{{ 'hello world'|upper }} {{ 'HELLO'|lower }} {{ 'hELLO wORLD'|capitalize }} {{ 'hel"
        "lo-wOrld (foo)'|title }} {{ ' a '|trim }}| {{ 'xax'|trim('x') }} {{ 5|string }} {{ n"
        "one|string }} {{ [1]|string }}"
    ),
    (
        "{{ missing|default('d') }} {{ ''|default('d') }}| {{ ''|default('d', true) }} {{ non"
        "e|d('x') }} {{ missing|default }}| {{ 0|default(1, boolean=true) }}"
    ),
    (
        "{{ numbers|length }} {{ 'héy'|count }} {{ mapping|length }} {{ missing|length }} {{ "
        "numbers|first }} {{ numbers|last }} {{ []|first }}| {{ 'abc'|first }} {{ 'abc'|last "
        "}} {{ mapping|first }}"
    ),
    "{{ 5|length }}",
    "{{ none|length }}",
    (
        "{{ numbers|join(', ') }} {{ numbers|join }} {{ people|join('; ', attribute='name') }"
        "} {{ ['a', 1, none]|join('-') }} {{ 'abc'|join('.') }}"
    ),
    (
        "{{ numbers|sort }} {{ numbers|sort(reverse=true) }} {{ ['b', 'A', 'c']|sort }} {{ ['"
        "b', 'A', 'c']|sort(case_sensitive=true) }} {{ people|sort(attribute='age')|map(attri"
        "bute='name')|list }} {{ people|sort(attribute='age,name')|map(attribute='name')|list"
        " }} {{ people|sort(reverse=true, attribute='age')|map(attribute='name')|list }}"
    ),
    "{{ ['a', 1]|sort }}",
    (
        "{{ numbers|reverse|list }} {{ 'abc'|reverse }} {{ numbers|unique|list }} {{ ['a', 'A"
        "', 'b']|unique|list }} {{ ['a', 'A']|unique(true)|list }} {{ [1, 1.0, 2]|unique|list"
        " }}"
    ),
    (
        "{{ people|map(attribute='name')|list }} {{ people|map(attribute='tags.0', default='-"
        "')|list }} {{ ['a', 'b']|map('upper')|list }} {{ [' a ']|map('trim')|join }} {{ ['a,"
        "b']|map('replace', ',', ';')|list }} {{ people|map(attribute='zip', default=1)|list "
        "}}"
    ),
    (
        "{{ [0, 1, none, 'a']|select|list }} {{ [1, 2, 3]|select('odd')|list }} {{ [1, 2, 3]|"
        "reject('odd')|list }} {{ [1, 5]|select('gt', 2)|list }} {{ ['a', 1]|select('string')"
        "|list }} {{ [1, 2]|select('in', [2, 3])|list }}"
    ),
    (
        "{{ people|selectattr('age', 'equalto', 30)|map(attribute='name')|list }} {{ people|s"
        "electattr('tags')|list|length }} {{ people|rejectattr('tags')|map(attribute='name')|"
        "join }} {{ people|selectattr('zip', 'defined')|list }} {{ messages|selectattr('role'"
        ", 'in', ['user'])|list|length }} {{ people|rejectattr('name', 'eq', 'Bo')|list|lengt"
        "h }}"
    ),
    (
        "{{ mapping|items|list }} {{ mapping|dictsort }} {{ mapping|dictsort(true) }} {{ {'a'"
        ": 2, 'b': 1}|dictsort(by='value') }} {{ {'a': 2, 'b': 1}|dictsort(reverse=true) }} {"
        "{ missing|items|list }}"
    ),
    "{{ numbers|items|list }}",
    (
        "{{ '3'|int }} {{ '3.7'|int }} {{ 'x'|int }} {{ 'x'|int(9) }} {{ 3.9|int }} {{ -3.9|i"
        "nt }} {{ 'ff'|int(base=16) }} {{ '0x1f'|int(0, 16) }} {{ ' 4 '|int }} {{ none|int }}"
        " {{ true|int }} {{ '1_000'|int }}"
    ),
    (
        "{{ '3.5'|float }} {{ 3|float }} {{ 'x'|float }} {{ 'x'|float(1.5) }} {{ '1e3'|float "
        "}} {{ none|float }}"
    ),
    (
        "{{ 2.5|round }} {{ 3.5|round }} {{ 2.345|round(2) }} {{ 2.675|round(2) }} {{ 42|roun"
        "d }} {{ 1234.5|round(-2) }} {{ 2.1|round(0, 'ceil') }} {{ 2.9|round(method='floor') "
        "}} {{ 2.55|round(1, 'ceil') }} {{ pi|round(3) }} {{ 2|round(1, 'floor') }}"
    ),
    (
        "{{ -5|abs }} {{ (-5)|abs }} {{ -2.5|abs }} {{ [3, 1, 2]|max }} {{ [3, 1, 2]|min }} {"
        "{ ['b', 'A']|min }} {{ people|max(attribute='age') }} {{ []|max }}| {{ [1, 2, 3]|sum"
        " }} {{ people|sum(attribute='age') }} {{ [1, 2]|sum(start=10) }} {{ [0.1, 0.2]|sum }"
        "}"
    ),
    (
        "{{ 'a\\nb\\n\\nc'|indent }}|{{ 'a\\nb'|indent(2, true) }}|{{ 'a\\n\\nb'|inde"
        "nt(2, blank=true) }}|{{ 'a\\nb\\n'|indent(width=1) }}|{{ 'a\\nb'|indent('>>') }}|"
    ),
    (
        "{{ 'a.b.a'|replace('a', 'x') }} {{ 'aaa'|replace('a', 'b', 1) }} {{ 123|replace(2, '"
        "x') }} {{ 'abc'|center(9) }}| {{ '<a href=\"x\">&\\'</a>'|e }} {{ '<b>'|e"
        "scape }} {{ '<b>'|safe }}"
    ),
    (
        "{{ 'foo bar baz qux'|truncate(9) }} {{ 'foo bar baz qux'|truncate(9, true) }} {{ 'fo"
        "o bar baz qux'|truncate(11, false, '...', 0) }} {{ 'short'|truncate(3) }} {{ 'foo ba"
        "r'|wordcount }} {{ 'a-b c_d'|wordcount }}"
    ),
    (
        "{{ [1, 2, 3, 4, 5]|batch(2)|list }} {{ [1, 2, 3]|batch(2, 'x')|list }} {{ [1, 2, 3, "
        "4, 5]|slice(3)|list }} {{ [1, 2, 3, 4]|slice(3, 'x')|list }} {{ '%s-%s'|format(1, 'b"
        "') }}"
    ),
    (
        "{% for age, group in people|groupby('age') %}{{ age }}:{% for p in group %}{{ p.name"
        " }}{% endfor %};{% endfor %}"
    ),
    (
        "{{ mapping|tojson }} {{ mapping|tojson(indent=2) }} {{ 'é😀</script>\\u2"
        "028'|tojson }} {{ 'é😀\\x7f'|tojson(ensure_ascii=true) }} {{ mapping|toj"
        "son(sort_keys=true, separators=(',', ':')) }} {{ [1.0, 1e20, 1e-7, none, true, (1, 2"
        ")]|tojson }} {{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }} {{ []|tojson(indent=2) }}"
        " {{ {}|tojson(indent=2) }}"
    ),
    (
        "{{ [[], {}, [1, {'a': []}]]|tojson(indent=1) }} {{ [1, 2]|tojson(indent=0) }} {{ [1]"
        "|tojson(indent=none) }} {{ big|tojson }} {{ [1,2]|tojson(separators=(', ', ': '), in"
        "dent=1) }}"
    ),
    "{{ missing|tojson }}",
    "{{ [missing]|tojson }}",
    "{{ numbers|nofilter }}",
    "{{ 1 is notest }}",
    "{{ people|map('nofilter')|list }}",
    "{{ 'a'|attr('upper')() }}",
    "{{ mapping|attr('b') }}|",
    # Tests
    (
        "{{ missing is defined }} {{ yes is defined }} {{ missing is undefined }} {{ none is "
        "none }} {{ 1 is number }} {{ true is number }} {{ 1.5 is float }} {{ 1 is integer }}"
        " {{ true is integer }} {{ true is boolean }} {{ 1 is boolean }} {{ 'a' is string }} "
        "{{ mapping is mapping }} {{ mapping is sequence }} {{ 'a' is sequence }} {{ numbers "
        "is iterable }} {{ 1 is iterable }} {{ 'a' is iterable }} {{ missing is iterable }} {"
        "{ missing is sequence }} {{ none is iterable }}"
    ),
    (
        "{{ 3 is odd }} {{ 4 is even }} {{ 9 is divisibleby 3 }} {{ 9 is divisibleby(2) }} {{"
        " 1 is eq 1 }} {{ 1 is equalto(2) }} {{ 1 is ne 2 }} {{ 1 is lt 2 }} {{ 1 is ge 1 }} "
        "{{ 1 is in [1] }} {{ 1 is not in([2]) }} {{ 'a' is lower }} {{ 'A1' is upper }} {{ t"
        "rue is true }} {{ 1 is true }} {{ false is false }} {{ none is sameas none }} {{ 1 i"
        "s sameas true }} {{ 'upper' is filter }} {{ 'odd' is test }} {{ range is callable }}"
        " {{ 1 is callable }}"
    ),
    (
        "{{ 1 is not none and 2 is defined }} {{ not 1 is none }} {{ 'x' if 1 is string else "
        "'y' }} {{ numbers|length is gt 2 }} {{ 1 is number is string }}"
    ),
    "{{ missing.x is defined }}",
    "{{ mapping.x is defined }} {{ mapping.x.y is defined }}",
    # Statements
    (
        "{% if 0 %}a{% elif '' %}b{% elif numbers %}c{% else %}d{% endif %}{% if missing %}{%"
        " else %}e{% endif %}"
    ),
    (
        "{% for n in numbers %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.re"
        "vindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.pr"
        "evitem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{{ loop.changed(n > 1) }};{% e"
        "ndfor %}"
    ),
    (
        "{% for n in [] %}x{% else %}empty{% endfor %}{% for n in missing %}x{% else %}none{%"
        " endfor %}{% for c in 'aé' %}[{{ c }}]{% endfor %}"
    ),
    "{% for n in none %}{% endfor %}",
    "{% for n in 5 %}{% endfor %}",
    "{% for a, b in [1] %}{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{% endfor %}",
    (
        "{% for n in numbers if n > 1 %}{{ n }}{{ loop.length }}{{ loop.index }}{% endfor %}{"
        "% for n in numbers if n > 9 %}x{% else %}none{% endfor %}{% for a, (b, c) in [(1, (2"
        ", 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}"
    ),
    (
        "{% for n in range(10) %}{% if n == 2 %}{% continue %}{% endif %}{% if n == 5 %}{% br"
        "eak %}{% endif %}{{ n }}{% endfor %} {{ range(3) | list }} {{ range(1, 10, 3) | list"
        " }} {{ range(5, 0, -2) | list }} {{ range(0) | list }}"
    ),
    (
        "{% for p in [{'n': 1, 'c': [{'n': 2, 'c': []}]}] recursive %}{{ p.n }}@{{ loop.depth"
        " }}({{ loop(p.c) }}){% endfor %}"
    ),
    (
        "{% set x = 1 %}{% for n in numbers %}{{ x }}{% set x = n %}{{ x }}{% endfor %}{{ x }"
        "}{% if true %}{% set x = 9 %}{% endif %}{{ x }}"
    ),
    (
        "{% for n in numbers %}{% if loop.first %}{% set y = 'set' %}{% endif %}{{ y }}|{% en"
        "dfor %}{{ loop }}|{{ n }}|"
    ),
    (
        "{% set ns = namespace(a=1, b='x') %}{% for n in numbers %}{% set ns.a = ns.a + n %}{"
        "% endfor %}{{ ns.a }}{{ ns.b }}{{ ns.c }}|{% set ns.c = [1] %}{{ ns.c }}{% set n2 = "
        "namespace({'q': 5}, r=6) %}{{ n2.q }}{{ n2.r }}{{ n2['q'] }}|"
    ),
    "{% set mapping.x = 1 %}",
    "{% set nowhere.x = 1 %}",
    (
        "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (c, d) = [3, 4] %}{{ c }}{{ d }}{% set t ="
        " 1, 2 %}{{ t }}"
    ),
    "{% set a, b = 1 %}",
    (
        "{% set block %}\n  some {{ 'text' }}\n{% endset %}[{{ block }}]{% set b2"
        " | upper | trim %} shout {% endset %}[{{ b2 }}]{% set b3 %}{% set inner = 1 %}{% end"
        "set %}{{ inner }}|"
    ),
    (
        "{% macro m(a, b=2, c='x') %}({{ a }},{{ b }},{{ c }}){% endmacro %}{{ m(1) }}{{ m(1,"
        " 3) }}{{ m(1, c=4) }}{{ m(b=5, a=6) }}{{ m() }}{{ m.name }}"
    ),
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(q=1) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}{{ m() }}",
    "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(7) }}",
    (
        "{% set g = 1 %}{% macro m() %}{{ g }}{{ late }}{% endmacro %}{% set g = 2 %}{% set l"
        "ate = 3 %}{{ m() }}{% for g in [8] %}{{ m() }}{% endfor %}"
    ),
    (
        "{% macro fact(n) %}{% if n > 1 %}{{ n }}*{{ fact(n - 1) }}{% else %}1{% endif %}{% e"
        "ndmacro %}{{ fact(5) }}"
    ),
    "{% macro deep(n) %}{{ deep(n) }}{% endmacro %}{{ deep(1) }}",
    (
        "{% macro box() %}[{{ caller() }}]{% endmacro %}{% call box() %}in {{ text|trim }}{% "
        "endcall %}{% macro each(xs) %}{% for x in xs %}{{ caller(x) }}{% endfor %}{% endmacr"
        "o %}{% call(x) each(numbers) %}<{{ x }}>{% endcall %}"
    ),
    "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}{% call m() %}{% endcall %}",
    (
        "{% filter upper %}abc {{ 'def' }}{% endfilter %}{% filter replace('a', 'b')|trim %} "
        "aaa {% endfilter %}{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}|{% with"
        " %}{% set z = 1 %}{{ z }}{% endwith %}{{ z }}|{% with x = 1, y = x %}{{ y }}{% endwi"
        "th %}|"
    ),
    "{% generation %}said{% set q = 1 %}{% endgeneration %}{{ q }}|",
    "{% print 'p' %}",
    (
        "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current"
        " }}{% set j = joiner('|') %}{{ j() }}x{{ j() }}y{{ j() }}"
    ),
    "{{ dict(a=1, b=2) }} {{ dict({'x': 1}, y=2) }} {{ dict([('k', 'v')]) }}",
    "{{ raise_exception('no ' ~ 1) }}",
    "{{ strftime_now('%Y-%m-%d %H:%M:%S %d %b %B %a %A %j %p %I %y %%') }}",
    (
        "{% macro m(a, b, k=0) %}{{ a }}{{ b }}{{ k }}{% endmacro %}{{ m(*[1, 2], **{'k': 3})"
        " }}{{ m(1, *[2]) }}"
    ),
    "{{ range(100001) }}",
    # White space
    "a\n{% if true %}\nb\n{% endif %}\nc\n",
    "a\n  {% if true %}  \n  b  \n  {% endif %}  \nc",
    "a {%- if true -%} b {%- endif -%} c",
    "a\n   {%+ if true %}b{% endif %}",
    "a\n{% if true +%}\nb{% endif %}",
    "  {{ 1 }}  \n  {{- 2 -}}  \n 3",
    "a\n  {# comment #}\nb {# c #} d\n{#- x -#}\ne",
    "x\n\n",
    "x\n\n\n",
    "\n{% set x = 1 %}\n\ny",
    "{{ 1 -}}\n\n  {{ 2 }}",
    "a\r\nb\rc\n{% if true %}\r\nd{% endif %}",
    "{% raw %}{{ not }} {% if %}{% endraw %}",
    "a\n  {%- raw -%}\n {{ x }} \n{%- endraw -%}\n b",
    "{% raw %}\n x{% endraw %}\ny",
    "a\n  {% raw %}z{% endraw %}\n",
    "{% if true %}{# c #}\n\tx{% endif %}",
    " {% if true %} x{% endif %}",
    "x {% if true %}\n\n y{% endif %}",
    "{{ {'a': {'b': 1}}['a'] }}{{ '}}' }}{{ '%}' }}",
    "{{'a'}}{{\"b\"}}{%set x=1%}{%if x%}c{%endif%}",
    "text only {% raw %}{% endraw %}",
    "",
    "{ % not } { { a } }",
    "{# only #}",
    "a{#\n#}b\n\n{% set a = [\n1,\n2] %}{{ a }}",
    "{% for i in [1,2] -%}\n  {{ i }}\n{%- endfor %}",
    "{%- for i in [1,2] %}\n  {{ i }}\n{% endfor -%}\n x",
    # Errors of grammar
    "{{ 1",
    "{% if 1 %}",
    "{% endif %}",
    "{% for x %}{% endfor %}",
    "{{ }}",
    "{{ 1 + }}",
    "{% nosuch %}",
    "{% set 1 = 2 %}",
    "{{ (1 }}",
    "{{ [1 }}",
    "{{ 'a }}",
    "{# open",
    "{% raw %}",
    "{{ a b }}",
    "{% break %}",
    "{{ 1 is }}",
    "{{ x| }}",
    "{% macro m(a=1, b) %}{% endmacro %}",
    "{% if 1 %}{% endfor %}",
    "{{ f(a=1, 2) }}",
    "{{ a.'b' }}",
    "{% set true = 1 %}",
    "{{ 1 if }}",
    "{{ ] }}",
    "{% for x in [] %}{% elif 1 %}{% endfor %}",
    "{{ @ }}",
    "{{ x is defined is none }}",
]
