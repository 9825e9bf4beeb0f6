def check_database_file(p): pass
