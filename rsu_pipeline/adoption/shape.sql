-- A schema's tables, views and functions, as PostgreSQL's catalogue has them. See sql_files.py for the form.

-- name: read_relations
-- Return the schema's tables, views, sequences and indexes, with their owners.
SELECT relname::text, relkind::text, obj_description(oid, 'pg_class'), pg_get_userbyid(relowner)::text,
    pg_has_role(relowner, 'USAGE'), relrowsecurity
FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(:'schema')) ORDER BY relname;

-- name: read_views
-- Return the views, with the tables that they read.
SELECT relname::text, pg_get_viewdef(oid), obj_description(oid, 'pg_class'), pg_get_userbyid(relowner)::text,
    array_to_string(reloptions, ', '),
    (SELECT array_agg(DISTINCT d.refobjid::regclass::text) FROM pg_rewrite r
     JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
     WHERE r.ev_class = v.oid AND d.refobjid <> v.oid)
FROM pg_class v WHERE relnamespace = to_regnamespace(quote_ident(:'schema')) AND relkind = 'v' ORDER BY relname;

-- name: read_columns
-- Return the columns of tables and views.
SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull,
    CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
    CASE WHEN a.attidentity <> '' THEN 'identity' WHEN a.attgenerated <> '' THEN 'generated' ELSE '' END,
    col_description(c.oid, a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = to_regnamespace(quote_ident(:'schema')) AND c.relkind IN ('r', 'p', 'f', 'v')
ORDER BY c.relname, a.attnum;

-- name: read_constraints
-- Return the constraints of tables.
SELECT c.relname::text, k.conname::text, k.contype::text, pg_get_constraintdef(k.oid, true),
    (SELECT array_agg(a.attname::text ORDER BY u.place) FROM unnest(k.conkey) WITH ORDINALITY u (number, place)
     JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number),
    CASE WHEN k.confrelid <> 0 THEN k.confrelid::regclass::text END, k.confdeltype::text
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE c.relnamespace = to_regnamespace(quote_ident(:'schema')) AND c.relkind IN ('r', 'p', 'f')
    AND k.contype IN ('p', 'u', 'f', 'c', 'x')
ORDER BY c.relname, k.conname;

-- name: read_indexes
-- Return the valid indexes that belong to no constraint, without their names.
SELECT c.relname::text, x.relname::text,
    replace(pg_get_indexdef(i.indexrelid, 0, true), ' INDEX ' || quote_ident(x.relname) || ' ON ', ' INDEX ON ')
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid
WHERE c.relnamespace = to_regnamespace(quote_ident(:'schema')) AND i.indisvalid
    AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
ORDER BY c.relname, x.relname;

-- name: read_triggers
-- Return the triggers of tables.
SELECT c.relname::text, t.tgname::text, pg_get_triggerdef(t.oid, true)
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = to_regnamespace(quote_ident(:'schema')) AND NOT t.tgisinternal
ORDER BY c.relname, t.tgname;

-- name: read_grants
-- Return the grants on views, as statements.
SELECT g.relname::text, 'GRANT ' || g.privilege_type || g.of_column || ' ON ' || quote_ident(g.relname) || ' TO '
    || CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END
    || CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
FROM (
    SELECT c.relname, c.relowner, c.relnamespace, a.privilege_type, '' AS of_column, a.grantee, a.is_grantable
    FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a WHERE c.relkind = 'v'
    UNION ALL
    SELECT c.relname, c.relowner, c.relnamespace, a.privilege_type, ' (' || quote_ident(t.attname) || ')', a.grantee,
        a.is_grantable
    FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid CROSS JOIN LATERAL aclexplode(t.attacl) a
    WHERE c.relkind = 'v'
) g
WHERE g.relnamespace = to_regnamespace(quote_ident(:'schema')) AND g.grantee <> g.relowner;

-- name: read_functions
-- Return the functions.
SELECT p.oid::regprocedure::text FROM pg_proc p
WHERE p.pronamespace = to_regnamespace(quote_ident(:'schema')) ORDER BY 1;

-- name: read_readers
-- Return the views of any schema that read the tables, with the columns.
SELECT DISTINCT v.oid::regclass::text, v.relnamespace = to_regnamespace(quote_ident(:'schema')), c.relname::text,
    coalesce(a.attname::text, '')
FROM pg_depend d
JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
JOIN pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')
JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid AND c.oid <> v.oid
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid AND d.refobjsubid > 0
WHERE c.relnamespace = to_regnamespace(quote_ident(:'schema'))
ORDER BY 1, 3, 4;

-- name: read_referrers
-- Return the foreign keys of any schema that point to the tables.
SELECT k.conrelid::regclass::text,
    (SELECT array_agg(a.attname::text ORDER BY u.place) FROM unnest(k.conkey) WITH ORDINALITY u (number, place)
     JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number),
    c.relname::text,
    (SELECT array_agg(a.attname::text ORDER BY u.place) FROM unnest(k.confkey) WITH ORDINALITY u (number, place)
     JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.number),
    k.confdeltype::text
FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid
WHERE k.contype = 'f' AND c.relnamespace = to_regnamespace(quote_ident(:'schema'))
ORDER BY 1, 3, 2;

-- name: read_heirs
-- Return the tables that inherit, with those that they inherit from.
SELECT i.inhrelid::regclass::text, i.inhparent::regclass::text
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
WHERE c.relkind = 'r' AND to_regnamespace(quote_ident(:'schema')) IN (c.relnamespace, p.relnamespace)
ORDER BY 1, 2;

-- name: read_rights
-- Return the database, and whether this role may create schemas in it, and tables in the schema.
SELECT current_database()::text, has_database_privilege(current_database(), 'CREATE'),
    has_schema_privilege(to_regnamespace(quote_ident(:'schema')), 'CREATE');

-- name: read_dependents
-- Return objects that PostgreSQL refuses to change a column's type under, or to drop a view under. A generated column depends on
-- its source directly up to PostgreSQL 14, and through its expression since. A row type depends on its relation.
SELECT d.classid::regclass::text, pg_describe_object(d.classid, d.objid, d.objsubid), c.relname::text,
    coalesce(a.attname::text, '')
FROM pg_depend d
JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid AND d.refobjsubid > 0
WHERE c.relnamespace = to_regnamespace(quote_ident(:'schema')) AND c.relkind IN ('r', 'v') AND (
    (d.classid IN ('pg_policy'::regclass, 'pg_proc'::regclass))
    OR (d.classid IN ('pg_trigger'::regclass, 'pg_publication_rel'::regclass) AND d.refobjsubid > 0)
    OR (d.classid = 'pg_rewrite'::regclass AND EXISTS (
        SELECT FROM pg_rewrite r WHERE r.oid = d.objid AND r.rulename <> '_RETURN'))
    OR (d.classid = 'pg_class'::regclass AND d.objid = d.refobjid AND d.objsubid > 0 AND d.refobjsubid > 0 AND EXISTS (
        SELECT FROM pg_attribute g WHERE g.attrelid = d.objid AND g.attnum = d.objsubid AND g.attgenerated <> ''))
    OR (d.classid = 'pg_attrdef'::regclass AND EXISTS (
        SELECT FROM pg_attrdef f JOIN pg_attribute g ON g.attrelid = f.adrelid AND g.attnum = f.adnum
        WHERE f.oid = d.objid AND g.attgenerated <> '' AND f.adnum <> d.refobjsubid)))
UNION
SELECT 'row type', pg_describe_object(d.classid, d.objid, d.objsubid), c.relname::text, ''
FROM pg_class c JOIN pg_type y ON y.oid = c.reltype
JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid IN (y.oid, y.typarray)
WHERE c.relnamespace = to_regnamespace(quote_ident(:'schema')) AND c.relkind IN ('r', 'v') AND d.deptype = 'n'
    AND (c.relkind = 'v' OR d.classid <> 'pg_proc'::regclass)
ORDER BY 3, 2, 4;
