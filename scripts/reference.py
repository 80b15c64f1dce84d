#!/usr/bin/env python3
"""Keeps doc/reference/ in step with the catalog of a server that has the extension.

A page holds what people write and, between markers, what the catalog knows:

  <!-- generated: synopsis -->    of a function or procedure: its COMMENT, how it is called, who may call it
  <!-- generated: parameters -->  name, type and default of each argument; the last column is written by hand
  <!-- generated: result -->      name and type of each column of the result; the last column is written by hand
  <!-- generated: columns -->     of a table or view: its COMMENT, who may read it, the COMMENT of each column
  <!-- generated: settings -->    each setting of profile_stream; the last column is written by hand
  <!-- end -->

An entry "- [`name`](name.md)" of README.md is followed by the COMMENT of the object.

  reference.py          writes what is between the markers, and pages that are missing
  reference.py --check  writes nothing; names what is missing, out of date, or stands for nothing, and exits with 1

psql finds the server by PGHOST, PGPORT, PGUSER and PGDATABASE. scripts/reference.sh starts one.
"""
import json
import os
import re
import subprocess
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')
PAGES = os.path.join(ROOT, 'doc', 'reference')
OBJECT_PARTS = ('synopsis', 'columns')

QUERY = r"""
SELECT json_build_object(
  'functions', (SELECT json_agg(json_build_object(
      'name', p.proname, 'procedure', p.prokind = 'p', 'comment', obj_description(p.oid, 'pg_proc'),
      'result', pg_get_function_result(p.oid), 'arguments', a.arguments,
      'roles', (SELECT json_agg(DISTINCT g.rolname) FROM aclexplode(p.proacl) x JOIN pg_roles g ON g.oid = x.grantee
                WHERE g.rolname LIKE 'profile\_stream\_%')) ORDER BY p.proname, p.oid)
    FROM pg_proc p JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
      CROSS JOIN LATERAL (SELECT json_agg(json_build_object('name', p.proargnames[i],
          'mode', COALESCE(p.proargmodes[i], 'i'), 'type', format_type(t, NULL),
          'default', CASE WHEN COALESCE(p.proargmodes[i], 'i') IN ('i', 'b') THEN pg_get_function_arg_default(p.oid, i::int) END) ORDER BY i) AS arguments
        FROM unnest(COALESCE(p.proallargtypes, p.proargtypes::oid[])) WITH ORDINALITY AS u(t, i)) a
    WHERE p.pronamespace = 'profile_stream'::regnamespace AND p.prorettype <> 'trigger'::regtype),
  'relations', (SELECT json_agg(json_build_object(
      'name', c.relname, 'kind', c.relkind, 'comment', obj_description(c.oid, 'pg_class'),
      'roles', (SELECT json_agg(DISTINCT g.rolname) FROM aclexplode(c.relacl) x JOIN pg_roles g ON g.oid = x.grantee
                WHERE g.rolname LIKE 'profile\_stream\_%' AND x.privilege_type = 'SELECT'),
      'columns', (SELECT json_agg(json_build_object('name', k.attname, 'type', format_type(k.atttypid, k.atttypmod),
          'comment', col_description(c.oid, k.attnum)) ORDER BY k.attnum)
        FROM pg_attribute k WHERE k.attrelid = c.oid AND k.attnum > 0 AND NOT k.attisdropped)) ORDER BY c.relname)
    FROM pg_class c JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
    WHERE c.relnamespace = 'profile_stream'::regnamespace AND c.relkind IN ('r', 'v')),
  'settings', (SELECT json_agg(json_build_object('name', s.name, 'type', s.vartype, 'unit', s.unit, 'default', s.boot_val,
      'min', s.min_val, 'max', s.max_val, 'context', s.context) ORDER BY s.name)
    FROM pg_settings s WHERE s.name LIKE 'profile\_stream.%' AND s.name !~ 'failpoint'))
"""
MEMBERS = """WITH member AS (SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
  WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'profile_stream')"""

UNITS = {'ms': (('d', 86400000), ('h', 3600000), ('min', 60000), ('s', 1000), ('ms', 1)),
         's': (('d', 86400), ('h', 3600), ('min', 60), ('s', 1)),
         'kB': (('GB', 1024 * 1024), ('MB', 1024), ('kB', 1)),
         'B': (('GB', 1024 ** 3), ('MB', 1024 ** 2), ('kB', 1024), ('B', 1))}
CONTEXTS = {'sighup': 'configuration file, reload', 'superuser': 'superuser, any time', 'user': 'anybody, any time',
            'postmaster': 'configuration file, restart', 'backend': 'start of a session', 'superuser-backend': 'superuser, start of a session',
            'internal': 'read only'}


def read_catalog():
    run = subprocess.run(['psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-c', "LOAD 'profile_stream'", '-c', MEMBERS + QUERY], stdout=subprocess.PIPE, check=True)
    return json.loads(run.stdout)


def type_of(name):
    return name.replace('timestamp with time zone', 'timestamptz')


def spell_interval(match):
    """An interval as people write it: '00:00:30' is '30 s'."""
    hours, minutes, seconds = match.group(1).split(':')
    ms = round((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * 1000)
    for unit, size in (('hours', 3600000), ('minutes', 60000), ('s', 1000), ('ms', 1)):
        if ms and ms % size == 0 and (ms > size or unit in ('s', 'ms')):
            return "'%d %s'" % (ms // size, unit)
    return "'0'"


def default_of(default):
    """A default as it is in the SQL script: without the casts and the schema that the catalog adds."""
    default = re.sub(r"::[a-z][a-z ]*(\[\])?$", '', default).replace('pg_catalog.', '')
    return re.sub(r"^'(\d+:\d\d:\d\d(?:\.\d+)?)'$", spell_interval, default)


def with_unit(value, unit):
    if unit not in UNITS or value in ('0', '-1'):
        return value
    return next('%d %s' % (int(value) // size, name) for name, size in UNITS[unit] if int(value) % size == 0)


def table(headings, rows):
    lines = ['| ' + ' | '.join(headings) + ' |', '|' + '---|' * len(headings)]
    return '\n'.join(lines + ['| ' + ' | '.join(row) + ' |' for row in rows])


def cell(text):
    return (text or '').replace('\n', ' ').replace('|', r'\|').strip()


def sentence(text):
    text = (text or '').strip()
    return text if text.endswith(('.', ':')) else text + '.'


def called_by(item, verb):
    names = (('monitor', 'monitors'), ('bi', 'analysts'), ('support', 'support'), ('reader', 'readers'), ('operator', 'operators'))
    who = [plural for role, plural in names if 'profile_stream_' + role in (item['roles'] or [])] or ['superusers']
    who = ' and '.join(([', '.join(who[:-1])] if len(who) > 1 else []) + who[-1:])
    return '%s by %s ([roles](roles.md)).' % (verb, who)


def inputs(function):
    return [a for a in function['arguments'] or [] if a['mode'] in ('i', 'b')]


def outputs(function):
    return [a for a in function['arguments'] or [] if a['mode'] in ('o', 'b', 't')]


def quoted(name):
    return '"%s"' % name if name in ('to', 'window') else name


def synopsis(functions):
    forms = []
    for function in functions:
        arguments = ['%s %s%s' % (quoted(a['name']), type_of(a['type']), ' DEFAULT ' + default_of(a['default']) if a['default'] else '')
                     for a in inputs(function)]
        head = '%s%s(' % ('CALL ' if function['procedure'] else '', function['name'])
        result = '' if function['procedure'] else ' → ' + result_of(function)
        line = head + ', '.join(arguments) + ')' + result
        forms.append(line if len(line) <= 110 else head + ',\n    '.join(['\n    ' + arguments[0]] + arguments[1:]) + ')' + result)
    return '\n'.join([sentence(functions[0]['comment']), '', '```', *forms, '```', '', called_by(functions[0], 'Called')])


def result_of(function):
    if outputs(function):
        columns = '(%s)' % ', '.join(a['name'] for a in outputs(function))
        many = function['result'].startswith(('SETOF', 'TABLE'))
        return ('rows of ' if many else '') + columns
    return type_of(function['result'])


class Page:
    def __init__(self, name, catalog):
        self.name = name
        self.path = os.path.join(PAGES, name + '.md')
        self.functions = [f for f in catalog['functions'] or [] if f['name'] == name]
        self.relation = next((r for r in catalog['relations'] or [] if r['name'] == name), None)
        self.settings = catalog['settings']
        self.problems = []
        with open(self.path, encoding='utf-8') as page:
            self.text = page.read()

    def written(self, part):
        """The last column of a table, by the name in its first one."""
        rows = {}
        for line in part.splitlines():
            cells = [c.strip() for c in re.split(r'(?<!\\)\|', line)[1:-1]]
            if len(cells) > 1 and cells[0].startswith('`'):
                rows[cells[0].strip('`')] = cells[-1]
        return rows

    def by_hand(self, part, headings, rows):
        """A table whose last column is kept from the page."""
        meanings = self.written(part)
        for row in rows:
            if not meanings.get(row[0]):
                self.problems.append('`%s` is not explained' % row[0])
        return table(headings + ['meaning'], [['`%s`' % row[0], *row[1:], meanings.get(row[0], '')] for row in rows])

    def generate(self, kind, part):
        if kind == 'synopsis' and self.functions:
            return synopsis(self.functions)
        if kind == 'parameters' and self.functions:
            arguments = {a['name']: a for function in self.functions for a in inputs(function)}
            return self.by_hand(part, ['name', 'type', 'default'], [
                [a['name'], type_of(a['type']), '`%s`' % default_of(a['default']) if a['default'] else 'required'] for a in arguments.values()])
        if kind == 'result' and self.functions:
            return self.by_hand(part, ['column', 'type'], [[a['name'], type_of(a['type'])] for f in self.functions[:1] for a in outputs(f)])
        if kind == 'columns' and self.relation:
            columns = self.relation['columns']
            self.problems += ['column `%s` has no COMMENT' % c['name'] for c in columns if not c['comment']]
            return '\n'.join([sentence(self.relation['comment']), '', called_by(self.relation, 'Read'), '',
                              table(['column', 'type', 'meaning'], [['`%s`' % c['name'], type_of(c['type']), cell(c['comment'])] for c in columns])])
        if kind == 'settings':
            return self.by_hand(part, ['setting', 'type', 'unit', 'default', 'range', 'set in'], [
                [s['name'], {'bool': 'boolean', 'real': 'number', 'string': 'text'}.get(s['type'], s['type']), s['unit'] or '',
                 '`%s`' % with_unit(s['default'], s['unit']) if s['default'] else 'empty',
                 '%s to %s' % (with_unit(s['min'], s['unit']), with_unit(s['max'], s['unit'])) if s['min'] else '',
                 CONTEXTS[s['context']]] for s in self.settings])
        self.problems.append('"%s" of nothing that is there' % kind)
        return part

    def needed(self):
        """The parts that a page of this object must have."""
        parts = []
        if self.functions:
            parts = ['synopsis']
            if any(inputs(f) for f in self.functions):
                parts.append('parameters')
            if any(outputs(f) for f in self.functions):
                parts.append('result')
        elif self.relation:
            parts = ['columns']
        return parts

    def render(self):
        found = []

        def replace(match):
            found.append(match.group(2))
            return '%s%s\n%s' % (match.group(1), self.generate(match.group(2), match.group(3)), match.group(4))

        result = re.sub(r'(<!-- generated: (\w+)[^\n]* -->\n)(.*?)(<!-- end -->)', replace, self.text, flags=re.S)
        self.problems += ['has no part "%s"' % part for part in self.needed() if part not in found]
        if not self.functions and not self.relation and set(found) & set(OBJECT_PARTS):
            self.problems.append('stands for no public object')
        if self.text.split('\n', 1)[0] != '# ' + self.name and (self.functions or self.relation):
            self.problems.append('does not begin with "# %s"' % self.name)
        return result


def skeleton(name, catalog):
    page = ['# ' + name, '']
    functions = [f for f in catalog['functions'] if f['name'] == name]
    if not functions:
        return '\n'.join(page + ['<!-- generated: columns -->', '<!-- end -->', ''])
    page += ['<!-- generated: synopsis -->', '<!-- end -->', '']
    if any(inputs(f) for f in functions):
        page += ['## Parameters', '', '<!-- generated: parameters -->', '<!-- end -->', '']
    if any(outputs(f) for f in functions):
        page += ['## Result', '', '<!-- generated: result -->', '<!-- end -->', '']
    return '\n'.join(page)


def render_index(text, comments, pages):
    """README.md with the COMMENT of each object that it lists, and what it lists wrongly."""
    listed = re.findall(r'^- \[[^\]]*\]\((\w+)\.md\)', text, flags=re.M)
    problems = ['does not list %s.md' % page for page in sorted(pages - set(listed))]
    problems += ['lists %s.md, which is not there' % page for page in sorted(set(listed) - pages)]
    problems += ['lists %s.md twice' % page for page in sorted({p for p in listed if listed.count(p) > 1})]
    return re.sub(r'^(- \[`(\w+)`\]\(\2\.md\)).*$',
                  lambda m: '%s: %s' % (m.group(1), sentence(comments[m.group(2)])) if m.group(2) in comments else m.group(0),
                  text, flags=re.M), problems


# errors of the code itself, and of its failpoints
NOT_EXPLAINED = {'internal_error', 'warning', 'disk_full', 'undefined_parameter'}
# where the name of a condition is another one than that of its macro
CONDITIONS = {'datetime_value_out_of_range': 'datetime_field_overflow'}


def conditions_of_source():
    """Names of the error conditions that the code raises."""
    names = set()
    for folder, _, files in os.walk(os.path.join(ROOT, 'src')):
        for file in (f for f in files if f.endswith(('.c', '.h'))):
            with open(os.path.join(folder, file), encoding='utf-8') as source:
                names |= set(re.findall(r'errcode\(ERRCODE_(?:E_R_I_E_|T_R_)?([A-Z_]+)\)', source.read()))
    return {CONDITIONS.get(name.lower(), name.lower()) for name in names} - NOT_EXPLAINED


def unknown_arguments(catalog):
    """Arguments that documents write as name => value, and that no function has."""
    known = {a['name'] for f in catalog['functions'] for a in f['arguments'] or []}
    problems = []
    paths = [os.path.join(folder, file) for folder, _, files in os.walk(os.path.join(ROOT, 'doc')) for file in files if file.endswith('.md')]
    for path in sorted(paths + [os.path.join(ROOT, 'README.md')]):
        with open(path, encoding='utf-8') as document:
            used = set(re.findall(r'\b([a-z_]+)"? =>', document.read()))
        problems += ['%s: no function has an argument `%s`' % (os.path.relpath(path, ROOT), name) for name in sorted(used - known)]
    return problems


def main():
    check = sys.argv[1:] == ['--check']
    catalog = read_catalog()
    objects = catalog['functions'] + catalog['relations']
    comments = {item['name']: item['comment'] for item in objects}
    problems = ['%s has no COMMENT' % name for name, comment in comments.items() if not comment]
    pages = {file[:-3] for file in os.listdir(PAGES) if file.endswith('.md')} - {'README'}

    def put(path, before, after):
        if before != after and check:
            problems.append('%s is out of date: scripts/reference.sh writes it' % os.path.basename(path))
        elif before != after:
            with open(path, 'w', encoding='utf-8') as page:
                page.write(after)

    for name in sorted(set(comments) - pages):
        problems.append('%s has no page' % name)
        if not check:
            put(os.path.join(PAGES, name + '.md'), '', skeleton(name, catalog))
    if not check:
        pages |= set(comments)
    for name in sorted(pages):
        page = Page(name, catalog)
        put(page.path, page.text, page.render())
        problems += ['%s.md: %s' % (name, problem) for problem in page.problems]
    path = os.path.join(PAGES, 'README.md')
    with open(path, encoding='utf-8') as page:
        text = page.read()
    index, wrong = render_index(text, comments, pages)
    put(path, text, index)
    problems += ['README.md: ' + problem for problem in wrong]
    with open(os.path.join(PAGES, 'errors.md'), encoding='utf-8') as page:
        named = set(re.findall(r'`([a-z_]+)`', page.read()))
    problems += ['errors.md: `%s` is raised and not explained' % name for name in sorted(conditions_of_source() - named)]
    problems += unknown_arguments(catalog)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
