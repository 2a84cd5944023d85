-- Takes an email off a row. The condition names the email: the row may have another one since it was read.
update /*<table>*/public.users/*</table>*/
set /*<email>*/email/*</email>*/ = /*<released>*/null/*</released>*/
where /*<id_column>*/id/*</id_column>*/ = $1::text::/*<id_type>*/text/*</id_type>*/
        and /*<id_column>*/id/*</id_column>*/::text = $1 and /*<still_has_email>*/email = $2::text/*</still_has_email>*/
