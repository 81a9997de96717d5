"""What people look at: tables and plots, made from records alone."""
