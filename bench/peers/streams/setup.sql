\ir ../profiles.sql
