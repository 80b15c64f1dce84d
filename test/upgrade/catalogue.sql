-- What an installation of the extension consists of, as text: the view testing.catalogue has a row for each thing that
-- can differ between two installations. Two copies of it are compared by testing.differences().
CREATE SCHEMA testing;

CREATE FUNCTION testing.row_count(relation regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n text;
BEGIN
	EXECUTE format('SELECT count(*) FROM %s', relation) INTO n;
	RETURN n;
END $$;

-- rights of each role, without what the order of GRANT and REVOKE leaves in an aclitem[]
CREATE FUNCTION testing.rights(acl aclitem[]) RETURNS TABLE (grantee text, rights text) LANGUAGE sql AS $$
	SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
		string_agg(a.privilege_type || CASE WHEN a.is_grantable THEN ' (grantable)' ELSE '' END, ', ' ORDER BY a.privilege_type)
	FROM aclexplode(acl) a GROUP BY a.grantee
$$;

-- members, and what belongs to a member without being one
CREATE VIEW testing.objects AS
	WITH member AS (
		SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
		WHERE e.extname = 'profile_stream' AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
		UNION SELECT 'pg_extension'::regclass, oid FROM pg_extension WHERE extname = 'profile_stream'
	), relation AS (
		SELECT objid FROM member WHERE classid = 'pg_class'::regclass
	), every AS (
		SELECT * FROM member
		UNION SELECT 'pg_class'::regclass, t.typrelid FROM member m JOIN pg_type t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid WHERE t.typrelid <> 0
		UNION SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index i JOIN relation r ON r.objid = i.indrelid
		UNION SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint c JOIN relation r ON r.objid = c.conrelid
		UNION SELECT 'pg_trigger'::regclass, t.oid FROM pg_trigger t JOIN relation r ON r.objid = t.tgrelid WHERE NOT t.tgisinternal
		UNION SELECT 'pg_rewrite'::regclass, w.oid FROM pg_rewrite w JOIN relation r ON r.objid = w.ev_class
		UNION SELECT 'pg_policy'::regclass, p.oid FROM pg_policy p JOIN relation r ON r.objid = p.polrelid
		UNION SELECT 'pg_statistic_ext'::regclass, s.oid FROM pg_statistic_ext s JOIN relation r ON r.objid = s.stxrelid
	)
	SELECT e.classid, e.objid, i.type || ' ' || i.identity AS object, e.classid::regclass::text AS class
	FROM every e, pg_identify_object(e.classid, e.objid, 0) i;

-- what each object is; NULL is a kind of object that this view does not know
CREATE VIEW testing.definitions AS
	SELECT o.object, CASE o.class
		WHEN 'pg_class' THEN (SELECT CASE c.relkind
				WHEN 'i' THEN pg_get_indexdef(c.oid) || (SELECT format(' clustered %s, replica identity %s', x.indisclustered, x.indisreplident) FROM pg_index x WHERE x.indexrelid = c.oid)
				WHEN 'S' THEN (SELECT format('%s start %s increment %s from %s to %s cache %s cycle %s', q.seqtypid::regtype, q.seqstart, q.seqincrement, q.seqmin, q.seqmax, q.seqcache, q.seqcycle)
					FROM pg_sequence q WHERE q.seqrelid = c.oid) || COALESCE((SELECT ' of ' || pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
					FROM pg_depend d WHERE d.classid = o.classid AND d.objid = o.objid AND d.deptype IN ('a', 'i')), '')
				ELSE format('persistence %s, options %s, of TOAST %s, row security %s and forced %s, replica identity %s, method %s', c.relpersistence, (SELECT array_agg(o ORDER BY o) FROM unnest(c.reloptions) o), t.reloptions,
					c.relrowsecurity, c.relforcerowsecurity, c.relreplident, m.amname) END
			FROM pg_class c LEFT JOIN pg_class t ON t.oid = c.reltoastrelid LEFT JOIN pg_am m ON m.oid = c.relam WHERE c.oid = o.objid)
		WHEN 'pg_constraint' THEN (SELECT pg_get_constraintdef(c.oid) || CASE WHEN c.connoinherit THEN ' (no inherit)' ELSE '' END FROM pg_constraint c WHERE c.oid = o.objid)
		WHEN 'pg_event_trigger' THEN (SELECT format('%s %s %s %s', t.evtevent, t.evtfoid::regprocedure, t.evttags, t.evtenabled) FROM pg_event_trigger t WHERE t.oid = o.objid)
		WHEN 'pg_extension' THEN (SELECT format('%s in %s, relocatable %s', x.extversion, x.extnamespace::regnamespace, x.extrelocatable) FROM pg_extension x WHERE x.oid = o.objid)
		WHEN 'pg_foreign_data_wrapper' THEN (SELECT format('handler %s validator %s options %s', w.fdwhandler::regproc, w.fdwvalidator::regproc, w.fdwoptions) FROM pg_foreign_data_wrapper w WHERE w.oid = o.objid)
		WHEN 'pg_namespace' THEN ''
		WHEN 'pg_operator' THEN (SELECT format('%s commutator %s negator %s restrict %s join %s hashes %s merges %s', p.oprcode::regprocedure, p.oprcom::regoperator, p.oprnegate::regoperator,
				p.oprrest::regproc, p.oprjoin::regproc, p.oprcanhash, p.oprcanmerge) FROM pg_operator p WHERE p.oid = o.objid)
		WHEN 'pg_policy' THEN (SELECT format('%s permissive %s to %s using %s check %s', p.polcmd, p.polpermissive, p.polroles::regrole[], pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
			FROM pg_policy p WHERE p.oid = o.objid)
		WHEN 'pg_proc' THEN (SELECT CASE p.prokind
				WHEN 'a' THEN (SELECT format('%s %s %s %s %s initially %s', a.aggtransfn, a.aggtranstype::regtype, a.aggfinalfn, a.aggcombinefn, p.proparallel, a.agginitval) FROM pg_aggregate a WHERE a.aggfnoid = p.oid)
				ELSE pg_get_functiondef(p.oid) END FROM pg_proc p WHERE p.oid = o.objid)
		WHEN 'pg_rewrite' THEN (SELECT format('%s %s', pg_get_ruledef(w.oid, true), w.ev_enabled) FROM pg_rewrite w WHERE w.oid = o.objid)
		WHEN 'pg_statistic_ext' THEN (SELECT format('%s %s', pg_get_statisticsobjdef(s.oid), to_jsonb(s) ->> 'stxstattarget') FROM pg_statistic_ext s WHERE s.oid = o.objid)
		WHEN 'pg_trigger' THEN (SELECT format('%s %s', pg_get_triggerdef(t.oid), t.tgenabled) FROM pg_trigger t WHERE t.oid = o.objid)
		WHEN 'pg_type' THEN (SELECT format('%s of %s, default %s, not null %s, labels %s', t.typtype, format_type(t.typbasetype, t.typtypmod), t.typdefault, t.typnotnull,
				(SELECT array_agg(l.enumlabel ORDER BY l.enumsortorder) FROM pg_enum l WHERE l.enumtypid = t.oid)) FROM pg_type t WHERE t.oid = o.objid)
		END AS definition
	FROM testing.objects o;

CREATE VIEW testing.owned AS
	SELECT o.classid, o.objid, o.object, x.owner, x.acl, acldefault(x.letter, x.owner) AS usual
	FROM testing.objects o JOIN (
		SELECT 'pg_class'::regclass::oid AS classid, oid AS objid, relowner AS owner, relacl AS acl, CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char" AS letter FROM pg_class WHERE relkind <> 'i'
		UNION ALL SELECT 'pg_event_trigger'::regclass, oid, evtowner, NULL, NULL FROM pg_event_trigger
		UNION ALL SELECT 'pg_extension'::regclass, oid, extowner, NULL, NULL FROM pg_extension
		UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid, fdwowner, fdwacl, 'F' FROM pg_foreign_data_wrapper
		UNION ALL SELECT 'pg_namespace'::regclass, oid, nspowner, nspacl, 'n' FROM pg_namespace
		UNION ALL SELECT 'pg_operator'::regclass, oid, oprowner, NULL, NULL FROM pg_operator
		UNION ALL SELECT 'pg_proc'::regclass, oid, proowner, proacl, 'f' FROM pg_proc
		UNION ALL SELECT 'pg_type'::regclass, oid, typowner, typacl, 'T' FROM pg_type
	) x USING (classid, objid);

CREATE VIEW testing.columns AS
	SELECT o.object, 'column ' || quote_ident(a.attname) AS part, a.attacl,
		format('%s%s%s after %s, storage %s%s, statistics %s, options %s', format_type(a.atttypid, a.atttypmod),
			CASE WHEN a.attcollation <> t.typcollation THEN ' COLLATE ' || a.attcollation::regcollation ELSE '' END
				|| CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END || COALESCE(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), ''),
			CASE WHEN a.attidentity <> '' THEN ' identity ' || a.attidentity::text WHEN a.attgenerated <> '' THEN ' generated ' || a.attgenerated::text ELSE '' END,
			COALESCE(lag(a.attname) OVER (PARTITION BY a.attrelid ORDER BY a.attnum), 'none'), a.attstorage, a.attcompression, COALESCE(a.attstattarget, -1), -- NULL from PostgreSQL 17 on
			-- in newer minor versions a column of a view has a number of its own here, which is another one each time
			COALESCE((SELECT string_agg(x, ' ' ORDER BY x) FROM unnest(a.attoptions) x WHERE x NOT LIKE 'pg\_attver=%'), 'none')) AS definition
	FROM testing.objects o JOIN pg_class c ON o.class = 'pg_class' AND c.oid = o.objid AND c.relkind NOT IN ('i', 'S')
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped JOIN pg_type t ON t.oid = a.atttypid
		LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum;

CREATE VIEW testing.catalogue AS
	SELECT object, '' AS part, definition AS value FROM testing.definitions
	UNION ALL SELECT object, 'owner', owner::regrole::text FROM testing.owned
	UNION ALL SELECT object, part, definition FROM testing.columns
	UNION ALL SELECT o.object, concat_ws(' of column ', 'comment', a.attname), d.description
		FROM pg_description d JOIN testing.objects o ON o.classid = d.classoid AND o.objid = d.objoid
			LEFT JOIN pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid AND d.objsubid > 0
	UNION ALL SELECT o.object, 'rights of ' || r.grantee, r.rights FROM testing.owned o, testing.rights(COALESCE(o.acl, o.usual)) r
	UNION ALL SELECT c.object, 'rights of ' || r.grantee || ' on ' || c.part, r.rights FROM testing.columns c, testing.rights(c.attacl) r
	-- a dump has what differs from these
	UNION ALL SELECT o.object, concat_ws(' on column ', 'rights of ' || r.grantee || ' by the script', a.attname), r.rights
		FROM pg_init_privs p JOIN testing.objects o ON o.classid = p.classoid AND o.objid = p.objoid
			LEFT JOIN pg_attribute a ON a.attrelid = p.objoid AND a.attnum = p.objsubid AND p.objsubid > 0, testing.rights(p.initprivs) r
	UNION ALL SELECT o.object, 'pg_extension_config_dump', u.condition
		FROM pg_extension e, unnest(e.extconfig, e.extcondition) u (relation, condition) JOIN testing.objects o ON o.class = 'pg_class' AND o.objid = u.relation
		WHERE e.extname = 'profile_stream'
	UNION ALL SELECT o.object, 'rows', testing.row_count(c.oid::regclass)
		FROM testing.objects o JOIN pg_class c ON o.class = 'pg_class' AND c.oid = o.objid AND c.relkind = 'r'
	UNION ALL SELECT 'role ' || r.rolname, '', (to_jsonb(r) - '{oid,rolname}'::text[])::text FROM pg_roles r WHERE r.rolname LIKE 'profile\_stream\_%'
	UNION ALL SELECT 'role ' || m.roleid::regrole, 'member ' || m.member::regrole, 'admin ' || m.admin_option
		FROM pg_auth_members m WHERE m.roleid::regrole::text LIKE 'profile\_stream\_%' OR m.member::regrole::text LIKE 'profile\_stream\_%';

-- The lines of a text that another one has not.
CREATE FUNCTION testing.own_lines(a text, b text) RETURNS text LANGUAGE sql AS $$
	SELECT CASE WHEN a IS NULL THEN '(nothing)' WHEN a = '' THEN '(empty)' ELSE COALESCE((SELECT string_agg(l.line, E'\n' ORDER BY l.n) FROM regexp_split_to_table(a, E'\n') WITH ORDINALITY l (line, n)
		WHERE l.line <> ALL (COALESCE(regexp_split_to_array(b, E'\n'), '{}'))), '(lines in another order, or fewer)') END
$$;

-- What an upgraded catalogue lacks or has too much. Of an object that is missing as a whole nothing else is told.
CREATE FUNCTION testing.differences(fresh regclass, upgraded regclass) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('
		WITH d AS (
			SELECT object, part, f.value AS fresh, u.value AS upgraded
			FROM (SELECT object, part, COALESCE(value, ''not described'') AS value FROM %s) f
				FULL JOIN (SELECT object, part, COALESCE(value, ''not described'') AS value FROM %s) u USING (object, part)
			WHERE f.value IS DISTINCT FROM u.value
		)
		SELECT format(E''%%s\n  CREATE EXTENSION: %%s\n  ALTER EXTENSION:  %%s'', concat_ws('', '', d.object, NULLIF(d.part, '''')),
			testing.own_lines(d.fresh, d.upgraded), testing.own_lines(d.upgraded, d.fresh))
		FROM d WHERE d.part = '''' OR NOT EXISTS (SELECT FROM d whole WHERE whole.object = d.object AND whole.part = '''' AND (whole.fresh IS NULL OR whole.upgraded IS NULL))
		ORDER BY d.object COLLATE "C", d.part COLLATE "C"', fresh, upgraded);
END $$;
