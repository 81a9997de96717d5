"""Reports: tables and plots for people, made only from records."""
