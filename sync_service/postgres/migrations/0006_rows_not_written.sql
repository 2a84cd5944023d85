-- Ends and undoes a statement that did not write each of its rows. SQL itself has no expression that raises an error.
create function clerk_sync.raise_row_not_written() returns boolean language plpgsql as $$
begin
    raise exception using errcode = 'CS001', message = 'row_not_written';
end
$$;
