"""What people look at: tables and plots, made only from records."""
