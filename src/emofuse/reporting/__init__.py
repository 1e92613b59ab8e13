"""Results for a reader: tables, pictures and pages."""
