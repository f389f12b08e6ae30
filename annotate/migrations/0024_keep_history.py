from django.db import migrations

# The site may delete what guests of its chat said of answers, because they may take it back; what
# labelers and reviewers said stays. Who owns the table (and migrates) may do anything.
KEEP = """
CREATE FUNCTION annotate_keep_history() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog AS $$
DECLARE
    is_of_guest boolean;
BEGIN
    IF pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
        RETURN OLD;
    END IF;
    EXECUTE format(TG_ARGV[0], TG_TABLE_SCHEMA) INTO is_of_guest USING OLD;
    IF NOT coalesce(is_of_guest, false) THEN
        RAISE insufficient_privilege USING MESSAGE = 'history is kept: ' || TG_TABLE_NAME;
    END IF;
    RETURN OLD;
END $$;
"""
ASK = {
    "annotate_demonstration": "SELECT $1.source = ''guest''",
    "annotate_ranking": "SELECT $1.source = ''guest''",
    "annotate_edit": "SELECT source = ''guest'' FROM %1$I.annotate_demonstration "
    "WHERE id = $1.demonstration_ptr_id",
    "annotate_placement": "SELECT source = ''guest'' FROM %1$I.annotate_ranking "
    "WHERE id = $1.ranking_id",
    "annotate_review": "SELECT source = ''guest'' FROM ("
    "SELECT id, source, true AS is_written FROM %1$I.annotate_demonstration UNION ALL "
    "SELECT id, source, false FROM %1$I.annotate_ranking) AS label "
    "WHERE id = $1.demonstration_id AND is_written OR id = $1.ranking_id AND NOT is_written",
}
TRIGGER = """
CREATE TRIGGER keep_history BEFORE DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION annotate_keep_history('{ask}');
"""
# Of the labels of somebody who is erased: blanks and nothing else, with an entry of its own.
ERASE = """
CREATE FUNCTION annotate_erase_labels(person bigint) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    erased integer;
    of_reviews integer;
BEGIN
    UPDATE annotate_edit SET diff = '[]' WHERE demonstration_ptr_id IN
        (SELECT id FROM annotate_demonstration WHERE labeler_id = person);
    UPDATE annotate_demonstration SET text = '[erased]', comment = '' WHERE labeler_id = person;
    GET DIAGNOSTICS erased = ROW_COUNT;
    UPDATE annotate_ranking SET comment = '' WHERE labeler_id = person;
    UPDATE annotate_talk SET comment = '' WHERE labeler_id = person;
    UPDATE annotate_review SET comment = '' WHERE reviewer_id = person;
    GET DIAGNOSTICS of_reviews = ROW_COUNT;
    INSERT INTO annotate_auditentry (action, about, details, request_id)
    VALUES ('erase_labels', 'user:' || person,
        jsonb_build_object('demonstrations', erased, 'reviews', of_reviews), '-');
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("annotate", "0023_keep_an_audit_log")]

    operations = [
        migrations.RunSQL(KEEP, "DROP FUNCTION annotate_keep_history()"),
        *(
            migrations.RunSQL(
                TRIGGER.format(table=table, ask=ask), f"DROP TRIGGER keep_history ON {table}"
            )
            for table, ask in ASK.items()
        ),
        migrations.RunSQL(ERASE, "DROP FUNCTION annotate_erase_labels(bigint)"),
    ]
