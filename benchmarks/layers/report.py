def write_report(result, docs): pass
