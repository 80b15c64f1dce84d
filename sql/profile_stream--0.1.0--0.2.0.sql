-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION profile_stream UPDATE TO '0.2.0'" to load this file. \quit

-- What sql/profile_stream.sql has since 0.1.0, in the same words. The regress test upgrade shows what is forgotten here.
